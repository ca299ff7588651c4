// What a profile knows of attention, where it was asked for: for each unit of a layer the largest
// ranks that it had in a document, by the paper's score, which is a squared change of what the
// document's attention computes when the unit is zeroed. P is the map of attention of one head, z
// the mixed values, W_O o_proj, e the channels of a head:
//   output:    ||W_O[:,hj]||^2 sum_t z_hj(t)^2, exact
//   value:     sum_t ||sum_h z_hj(t) W_O[:,hj]||^2 over the heads h that read the row, exact
//   query_key: sum_t,h KL(P(t,.) || P without the pair) to second order: 1/2 Var over s ~ P(t,.) of
//              the logit that the pair contributes (ALGORITHM 2.3). Where queries and keys are
//              normed, the norm's divisor is held fixed: a pair counts as if it were removed behind
//              the norm, while zeroed rows also rescale the rest of their head (decisions/0009).
// The norm behind attention, in families that have one, is not in it, as for neurons. Plain data;
// thread-compatible.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/profile/attention_sets.h"

namespace secateur {

// One layer: [unit][kTopRanks] of each set, as LayerStatistics::top_ranks.
using AttentionStatistics = AttentionSets<std::vector<uint16_t>>;

struct AttentionProfile {
  AttentionHeads heads;
  std::vector<AttentionStatistics> layers;  // empty: not asked for

  // INVALID_ARGUMENT for a number that is not positive, an odd head_dim or heads that are no
  // multiple of kv_heads; UNIMPLEMENTED for a set of more than 65,536 units.
  static absl::Status Check(const AttentionHeads& heads);
  // As Check(). REQUIRES: num_layers > 0.
  static absl::StatusOr<AttentionProfile> Empty(int64_t num_layers, const AttentionHeads& heads);
  bool empty() const { return layers.empty(); }
  // As Profile::Merge: INVALID_ARGUMENT when shapes differ or only one has statistics.
  absl::Status Merge(const AttentionProfile& other);

  friend bool operator==(const AttentionProfile&, const AttentionProfile&) = default;
};

// The scores of one document in one layer, one a unit.
using AttentionScores = AttentionSets<std::vector<float>>;

// Ranks and adds. DATA_LOSS for a score that is not finite or negative, naming the set and the
// unit; nothing has changed then. REQUIRES: the statistics' units.
absl::Status AddAttention(const AttentionScores& scores, AttentionStatistics& statistics);

}  // namespace secateur
