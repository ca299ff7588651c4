#include "server/profile/profile.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/profile/score_sums.h"

namespace secateur {
namespace {

constexpr int64_t kMaxNeurons = int64_t{std::numeric_limits<uint16_t>::max()} + 1;

template <class T>
absl::Status AddSums(std::string_view what, const std::vector<T>& other, std::vector<T>& sums) {
  for (size_t k = 0; k < sums.size(); ++k) {
    if (__builtin_add_overflow(sums[k], other[k], &sums[k])) {
      return absl::OutOfRangeError(
          StrCat("the sum \"", what, "\" of channel ", k, " does not fit into 64 bits"));
    }
  }
  return absl::OkStatus();
}

void AddScores(const std::vector<uint64_t>& other, std::vector<uint64_t>& sums) {
  for (size_t i = 0; i < sums.size(); ++i) AddSaturating(other[i], sums[i]);
}

absl::Status MergeLayer(const LayerStatistics& other, LayerStatistics& layer) {
  RETURN_IF_ERROR(AddSums("normalized", other.normalized, layer.normalized));
  RETURN_IF_ERROR(AddSums("paper_normalized", other.paper_normalized, layer.paper_normalized));
  RETURN_IF_ERROR(AddSums("log_score", other.log_score, layer.log_score));
  RETURN_IF_ERROR(AddSums("rank", other.rank, layer.rank));
  RETURN_IF_ERROR(AddSums("activation", other.activation, layer.activation));
  RETURN_IF_ERROR(AddSums("half_normalized", other.half_normalized, layer.half_normalized));
  AddScores(other.score, layer.score);
  AddScores(other.group_score, layer.group_score);
  layer.residual_peak = std::max(layer.residual_peak, other.residual_peak);
  for (size_t k = 0; k < layer.peak.size(); ++k) {
    layer.peak[k] = std::max(layer.peak[k], other.peak[k]);
    MergeTopRanks(&other.top_ranks[k * kTopRanks], &layer.top_ranks[k * kTopRanks]);
  }
  return absl::OkStatus();
}

absl::Status AddCount(std::string_view what, int64_t other, int64_t& count) {
  if (!__builtin_add_overflow(count, other, &count)) return absl::OkStatus();
  return absl::OutOfRangeError(StrCat("the number of ", what, " does not fit into 64 bits"));
}

bool SameStatistics(const LayerStatistics& a, const LayerStatistics& b) {
  return a.normalized == b.normalized && a.paper_normalized == b.paper_normalized &&
         a.score == b.score && a.log_score == b.log_score && a.rank == b.rank &&
         a.activation == b.activation && a.peak == b.peak && a.top_ranks == b.top_ranks &&
         a.half_normalized == b.half_normalized && a.residual_peak == b.residual_peak &&
         a.group_score == b.group_score;
}

std::string Shape(int64_t layers, int64_t neurons, int64_t groups) {
  return StrCat(layers, " layers of ", neurons, " neurons and ", groups, " KV head groups");
}

std::string ShapeOf(const Profile& profile) {
  return Shape(std::ssize(profile.layers), profile.intermediate_size(), profile.kv_head_groups());
}

}  // namespace

absl::StatusOr<Profile> Profile::Empty(int64_t num_layers, int64_t intermediate_size,
                                       int64_t kv_head_groups) {
  if (num_layers < 1 || intermediate_size < 1 || kv_head_groups < 1) {
    return absl::InvalidArgumentError(StrCat("a profile of ",
                                             Shape(num_layers, intermediate_size, kv_head_groups),
                                             ": all must be at least 1"));
  }
  if (intermediate_size > kMaxNeurons) {
    return absl::UnimplementedError(StrCat("a layer of ", intermediate_size,
                                           " neurons: ranks of 16 bits serve at most ",
                                           kMaxNeurons));
  }
  const auto width = static_cast<size_t>(intermediate_size);
  LayerStatistics layer;
  layer.normalized.resize(width);
  layer.paper_normalized.resize(width);
  layer.score.resize(width);
  layer.log_score.resize(width);
  layer.rank.resize(width);
  layer.activation.resize(width);
  layer.peak.resize(width);
  layer.top_ranks.resize(width * kTopRanks);
  layer.half_normalized.resize(width);
  layer.group_score.resize(static_cast<size_t>(kv_head_groups));
  Profile profile;
  profile.layers.assign(static_cast<size_t>(num_layers), layer);
  return profile;
}

absl::Status Profile::Merge(const Profile& other) {
  if (layers.size() != other.layers.size() || intermediate_size() != other.intermediate_size() ||
      kv_head_groups() != other.kv_head_groups()) {
    return absl::InvalidArgumentError(
        StrCat("cannot merge a profile of ", ShapeOf(other), " into one of ", ShapeOf(*this)));
  }
  Profile merged = *this;
  RETURN_IF_ERROR(AddCount("documents", other.documents, merged.documents));
  RETURN_IF_ERROR(AddCount("tokens", other.tokens, merged.tokens));
  RETURN_IF_ERROR(AddCount("dropped tokens", other.dropped_tokens, merged.dropped_tokens));
  RETURN_IF_ERROR(AddCount("documents of a half", other.half_documents, merged.half_documents));
  if (merged.documents > kMaxDocuments) {
    return absl::OutOfRangeError(StrCat("the merged profile would have ", merged.documents,
                                        " documents; at most ", kMaxDocuments, " fit"));
  }
  RETURN_IF_ERROR(merged.attention.Merge(other.attention));
  for (size_t l = 0; l < layers.size(); ++l) {
    const absl::Status status = MergeLayer(other.layers[l], merged.layers[l]);
    if (!status.ok()) return Annotate(status, StrCat("layer ", l));
  }
  *this = std::move(merged);
  return absl::OkStatus();
}

bool operator==(const Profile& a, const Profile& b) {
  return a.documents == b.documents && a.tokens == b.tokens &&
         a.dropped_tokens == b.dropped_tokens && a.half_documents == b.half_documents &&
         a.attention == b.attention &&
         std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    SameStatistics);
}

}  // namespace secateur
