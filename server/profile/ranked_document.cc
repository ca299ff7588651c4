#include "server/profile/ranked_document.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/profile/score_sums.h"
#include "server/profile/top_ranks.h"

namespace secateur {
namespace {

constexpr double kLogFloor = 1e-30;

absl::Status CheckValues(std::string_view what, const std::vector<float>& values, float least) {
  for (size_t k = 0; k < values.size(); ++k) {
    if (values[k] >= least && values[k] <= std::numeric_limits<float>::max()) continue;
    return absl::DataLossError(StrCat("channel ", k, ": the ", what, " is ", values[k],
                                      "; expected a finite number",
                                      least < 0 ? "" : " that is not negative"));
  }
  return absl::OkStatus();
}

double Total(const std::vector<float>& values) {
  double total = 0;
  for (const float value : values) total += value;
  return total;
}

uint64_t Share(float value, double total) {
  return total > 0 ? static_cast<uint64_t>(std::llround(value / total / kScoreUnit)) : 0;
}

int64_t LogUnits(float score) { return std::llround(std::log(score + kLogFloor) / kLogUnit); }

int64_t ActivationUnits(float mean) {
  const double limited = std::clamp<double>(mean, -kActivationLimit, kActivationLimit);
  return std::llround(limited / kActivationUnit);
}

bool HasWidth(const DocumentScores& scores, size_t width) {
  return scores.relative.size() == width && scores.paper.size() == width &&
         scores.activation.size() == width && scores.peak.size() == width;
}

}  // namespace

absl::StatusOr<RankedDocument> RankDocument(const DocumentScores& scores) {
  RETURN_IF_ERROR(CheckValues("paper score", scores.paper, 0));
  RETURN_IF_ERROR(CheckValues("relative score", scores.relative, 0));
  RETURN_IF_ERROR(
      CheckValues("mean activation", scores.activation, std::numeric_limits<float>::lowest()));
  RETURN_IF_ERROR(CheckValues("peak", scores.peak, 0));
  if (!(scores.residual_peak >= 0) || std::isinf(scores.residual_peak)) {
    return absl::DataLossError(StrCat("the residual stream's largest coordinate is ",
                                      scores.residual_peak, "; expected a finite number"));
  }
  return RankedDocument{.ranks = RankScores(scores.paper),
                        .relative_total = Total(scores.relative),
                        .paper_total = Total(scores.paper)};
}

void AddChannels(const DocumentScores& scores, const RankedDocument& ranked, int64_t begin,
                 int64_t end, LayerStatistics& statistics) {
  for (auto k = static_cast<size_t>(begin); k < static_cast<size_t>(end); ++k) {
    const uint64_t share = Share(scores.relative[k], ranked.relative_total);
    statistics.normalized[k] += share;
    if (scores.in_half) statistics.half_normalized[k] += share;
    statistics.paper_normalized[k] += Share(scores.paper[k], ranked.paper_total);
    AddScore(static_cast<double>(scores.relative[k]), statistics.score[k]);
    statistics.log_score[k] += LogUnits(scores.relative[k]);
    statistics.rank[k] += ranked.ranks[k];
    statistics.activation[k] += ActivationUnits(scores.activation[k]);
    statistics.peak[k] = std::max(statistics.peak[k], scores.peak[k]);
    InsertTopRank(ranked.ranks[k], &statistics.top_ranks[k * kTopRanks]);
  }
}

absl::Status AddDocument(const DocumentScores& scores, int64_t documents_before,
                         LayerStatistics& statistics) {
  const size_t width = statistics.normalized.size();
  if (!HasWidth(scores, width)) {
    return absl::InvalidArgumentError(StrCat(
        "scores of ", scores.relative.size(), ", ", scores.paper.size(), ", ",
        scores.activation.size(), " and ", scores.peak.size(), " channels for a layer of ", width));
  }
  if (documents_before < 0 || documents_before >= kMaxDocuments) {
    return absl::OutOfRangeError(StrCat("a profile of ", documents_before,
                                        " documents takes no more; at most ", kMaxDocuments,
                                        " fit"));
  }
  ASSIGN_OR_RETURN(const RankedDocument ranked, RankDocument(scores));
  AddChannels(scores, ranked, 0, static_cast<int64_t>(width), statistics);
  statistics.residual_peak = std::max(statistics.residual_peak, scores.residual_peak);
  return absl::OkStatus();
}

}  // namespace secateur
