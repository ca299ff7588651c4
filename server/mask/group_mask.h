// Which KV head groups stay: weighted views to an order of their groups, and that to rows and
// columns of attention (ALGORITHM 2.2, 4.2). A group is one key head, its value head and all query
// heads that read them. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/mask/mask.h"
#include "server/mask/weighted_views.h"
#include "server/profile/attention_sets.h"

namespace secateur {

// Means over the views, in the unit of RelevanceView::Layer::group_score: squared changes of the
// residual stream relative to it, which compare over layers, and with neurons.
struct GroupOrder {
  std::vector<std::vector<double>> scores;  // by layer and group: at least 0
  // By layer: RelevanceView::Layer::score_total, what all neurons of it come to.
  std::vector<double> neuron_totals;
};

// Weights are normalised to sum 1; the result does not depend on the order of the views.
// INVALID_ARGUMENT for what CheckViews() refuses, layers without groups or of unequal numbers of
// them, or a score or total that is negative or not finite.
absl::StatusOr<GroupOrder> ComposeGroups(const std::vector<WeightedView>& views);

// For each layer the `kept` groups of the largest scores, ascending; of equal scores the lower
// group stays. Fewer kept are always among more. REQUIRES: 1 <= kept <= the groups of a layer.
std::vector<std::vector<int32_t>> SelectGroupsUniform(const GroupOrder& order, int64_t kept);

// Removes as many groups as SelectGroupsUniform in all, but those of the smallest scores over all
// layers, under guards: none of the first two layers and of the last goes, and every layer keeps at
// least half of its groups, rounded up. Where that leaves too few to remove, the guard of the first
// and last layers falls; where that does too, it is SelectGroupsUniform. Of equal scores the later
// layer's goes first, in a layer that of the higher group. Fewer kept are among more as long as the
// same guards stand. REQUIRES: as SelectGroupsUniform.
std::vector<std::vector<int32_t>> SelectGroupsByLayer(const GroupOrder& order, int64_t kept);

// The rows of q, k and v and the columns of o of the groups of each layer. REQUIRES: groups
// ascending, below heads.kv_heads.
std::vector<KeptAttention> KeptAttentionOf(const AttentionHeads& heads,
                                           const std::vector<std::vector<int32_t>>& groups);

// The inverse. INVALID_ARGUMENT, naming the layer, where rows or columns are not those of whole
// groups, ascending, or not of the same groups in q, k, v and o.
absl::StatusOr<std::vector<std::vector<int32_t>>> WholeGroups(
    const AttentionHeads& heads, const std::vector<KeptAttention>& kept);

// The sum over layers of the scores of groups that are not in `kept`. REQUIRES: the order's layers,
// groups ascending.
double RemovedScore(const GroupOrder& order, const std::vector<std::vector<int32_t>>& kept);

}  // namespace secateur
