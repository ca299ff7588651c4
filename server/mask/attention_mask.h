// Strict sets of attention, as Cus-Prun publishes them: each set of a layer (attention_sets.h) by
// its own ranks at the same sigma as the neurons. Pure functions.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/mask/compose.h"
#include "server/mask/mask.h"
#include "server/profile/dimension.h"

namespace secateur {

struct AttentionOrder {
  AttentionHeads heads;
  std::vector<AttentionRanks> layers;  // largest ranks over all views
};

// INVALID_ARGUMENT for no views, a view without ranks of attention, unequal shapes, or a rank that
// no unit can have. Weights do not apply.
absl::StatusOr<AttentionOrder> ComposeAttention(const std::vector<WeightedView>& views);

// Keeps what is outside the strict sets at `sigma` in [0, 1]. OUT_OF_RANGE, naming the largest
// sigma that will do, when that is nothing of some set.
absl::StatusOr<std::vector<KeptAttention>> SelectAttention(const AttentionOrder& order,
                                                           double sigma);

}  // namespace secateur
