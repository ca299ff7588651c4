#include "server/profile/attention_statistics.h"

#include <limits>
#include <string_view>

#include "server/base/strings.h"
#include "server/profile/top_ranks.h"

namespace secateur {
namespace {

constexpr int64_t kMostUnits = int64_t{std::numeric_limits<uint16_t>::max()} + 1;

std::string Text(const AttentionHeads& heads) {
  return StrCat(heads.heads, " heads, ", heads.kv_heads, " KV heads of ", heads.head_dim,
                " channels");
}

absl::Status CheckScores(std::string_view set, const std::vector<float>& scores) {
  for (size_t unit = 0; unit < scores.size(); ++unit) {
    if (scores[unit] >= 0 && scores[unit] <= std::numeric_limits<float>::max()) continue;
    return absl::DataLossError(StrCat("attention set \"", set, "\", unit ", unit, ": the score is ",
                                      scores[unit],
                                      "; expected a finite number that is not negative"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AttentionProfile::Check(const AttentionHeads& heads) {
  if (heads.heads < 1 || heads.kv_heads < 1 || heads.head_dim < 1 ||
      heads.heads % heads.kv_heads != 0 || heads.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        StrCat("statistics of attention for ", Text(heads),
               ": all must be positive, heads a multiple of KV heads, channels even"));
  }
  if (heads.heads <= kMostUnits / heads.head_dim) return absl::OkStatus();
  return absl::UnimplementedError(StrCat("statistics of attention for ", Text(heads),
                                         ": ranks of 16 bits serve at most ", kMostUnits,
                                         " channels"));
}

absl::StatusOr<AttentionProfile> AttentionProfile::Empty(int64_t num_layers,
                                                         const AttentionHeads& heads) {
  RETURN_IF_ERROR(Check(heads));
  const AttentionSets<int64_t> units = UnitsOf(heads);
  AttentionStatistics layer;
  RETURN_IF_ERROR(ForEachAttentionSet([&](std::string_view, auto set) {
    set(layer).resize(static_cast<size_t>(set(units)) * kTopRanks);
    return absl::OkStatus();
  }));
  AttentionProfile profile{.heads = heads, .layers = {}};
  profile.layers.assign(static_cast<size_t>(num_layers), layer);
  return profile;
}

absl::Status AttentionProfile::Merge(const AttentionProfile& other) {
  if (empty() != other.empty()) {
    return absl::InvalidArgumentError(
        "cannot merge a profile with statistics of attention and one without");
  }
  if (heads != other.heads || layers.size() != other.layers.size()) {
    return absl::InvalidArgumentError(
        StrCat("cannot merge statistics of attention for ", other.layers.size(), " layers of ",
               Text(other.heads), " into those for ", layers.size(), " layers of ", Text(heads)));
  }
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    RETURN_IF_ERROR(ForEachAttentionSet([&](std::string_view, auto set) {
      const std::vector<uint16_t>& from = set(other.layers[layer]);
      std::vector<uint16_t>& to = set(layers[layer]);
      for (size_t row = 0; row < to.size(); row += kTopRanks) MergeTopRanks(&from[row], &to[row]);
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

absl::Status AddAttention(const AttentionScores& scores, AttentionStatistics& statistics) {
  RETURN_IF_ERROR(ForEachAttentionSet(
      [&](std::string_view name, auto set) { return CheckScores(name, set(scores)); }));
  return ForEachAttentionSet([&](std::string_view, auto set) {
    const std::vector<uint16_t> ranks = RankScores(set(scores));
    for (size_t unit = 0; unit < ranks.size(); ++unit) {
      InsertTopRank(ranks[unit], &set(statistics)[unit * kTopRanks]);
    }
    return absl::OkStatus();
  });
}

}  // namespace secateur
