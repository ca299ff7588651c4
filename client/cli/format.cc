#include "client/cli/format.h"

#include <cmath>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace secateur::cli {
namespace {

// 1 <= value < 1000 or so, to three significant digits.
std::string ThreeDigits(double value) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f", decimals, value);
}

// Divides by `base` until the value prints with three digits, then adds the unit.
std::string Scaled(double value, double base, const std::vector<std::string>& units) {
  if (std::abs(value) < base - 0.5) return absl::StrFormat("%.0f%s", value, units[0]);
  size_t unit = 0;
  while (value >= base - 0.5 && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  return ThreeDigits(value) + units[unit];
}

}  // namespace

std::string FormatCount(double count) { return Scaled(count, 1000, {"", "k", "M", "B", "T"}); }

std::string FormatNumber(int64_t number, const char* one, const char* several) {
  return absl::StrCat(number, " ", number == 1 ? one : several);
}

std::string FormatBytes(double bytes) {
  return Scaled(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"});
}

std::string FormatShare(double share) { return absl::StrFormat("%.1f%%", 100 * share); }

std::string FormatTimeSpan(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 1) return "under 1s";
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, "m ", seconds % 60, "s");
  return absl::StrCat(seconds / 3600, "h ", seconds / 60 % 60, "m");
}

std::string FormatEnum(const google::protobuf::EnumDescriptor& descriptor, int number) {
  const auto* value = descriptor.FindValueByNumber(number);
  if (value == nullptr) return absl::StrCat(number);
  return absl::StrReplaceAll(absl::AsciiStrToLower(value->name()), {{"_", "-"}});
}

std::string FormatLabels(const google::protobuf::Map<std::string, std::string>& labels) {
  const std::map<std::string, std::string> sorted(labels.begin(), labels.end());
  return absl::StrJoin(sorted, " ", absl::PairFormatter("="));
}

std::string Printable(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : '\0');
    if (byte < ' ' || byte == 0x7f) {
      out += '?';
    } else if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // U+0080 to U+009F
      out += '?';
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace secateur::cli
