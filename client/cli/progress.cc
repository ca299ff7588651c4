#include "client/cli/progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/format.h"

namespace secateur::cli {
namespace {

// Long enough for every part, short enough for a terminal of 80 columns beside the bar.
constexpr size_t kTextWidth = 64;
constexpr int kBarWidth = 12;

std::string FormatAmount(double value, const std::string& unit) {
  return unit == "bytes" ? FormatBytes(value) : FormatCount(value);
}

// "1.23M of 2.92M tokens", "98.1 MiB".
std::string FormatDone(const v1::OperationProgress& progress) {
  std::string text = FormatAmount(static_cast<double>(progress.done()), progress.unit());
  if (progress.total() > 0) {
    const auto total = static_cast<double>(progress.total());
    absl::StrAppend(&text, " of ", FormatAmount(total, progress.unit()));
  }
  if (progress.unit() != "bytes") absl::StrAppend(&text, " ", progress.unit());
  return text;
}

std::string FormatRate(const v1::OperationProgress& progress) {
  if (progress.tokens_per_second() > 0) {
    return absl::StrCat("  ", FormatCount(progress.tokens_per_second()), " tokens/s");
  }
  if (progress.rate() <= 0) return "";
  if (progress.unit() == "bytes") return absl::StrCat("  ", FormatBytes(progress.rate()), "/s");
  return absl::StrCat("  ", FormatCount(progress.rate()), " ", progress.unit(), "/s");
}

}  // namespace

double ShareDone(const v1::OperationProgress& progress) {
  if (progress.total() <= 0) return -1;
  const double share = static_cast<double>(progress.done()) / static_cast<double>(progress.total());
  return std::clamp(share, 0.0, 1.0);
}

std::string FormatProgress(const v1::OperationMetadata& metadata) {
  const v1::OperationProgress& progress = metadata.progress();
  if (progress.phase().empty()) {
    return FormatEnum(*v1::OperationMetadata::State_descriptor(), metadata.state());
  }
  std::string text = progress.phase();
  const double share = ShareDone(progress);
  if (share >= 0) absl::StrAppendFormat(&text, "  %.0f%%", 100 * share);
  if (!progress.unit().empty()) absl::StrAppend(&text, "  ", FormatDone(progress));
  absl::StrAppend(&text, FormatRate(progress));
  if (progress.has_eta()) {
    absl::StrAppend(&text, "  ETA ", FormatTimeSpan(absl::Seconds(progress.eta().seconds())));
  }
  return Printable(text);
}

ProgressBar::~ProgressBar() {
  if (drawn_) err_ << "\r\x1b[K" << std::flush;
}

void ProgressBar::Show(double share, const std::string& text) {
  if (!visible_) return;
  err_ << "\r\x1b[K";
  if (share >= 0) {
    const int filled = static_cast<int>(share * kBarWidth);
    err_ << "[" << std::string(static_cast<size_t>(filled), '#')
         << std::string(static_cast<size_t>(kBarWidth - filled), '.') << "] ";
  }
  err_ << text.substr(0, kTextWidth) << std::flush;
  drawn_ = true;
}

}  // namespace secateur::cli
