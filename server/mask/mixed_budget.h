// How many KV head groups stay where a budget counts parameters or bytes: neurons and groups
// against one another, by what their removal changes (ALGORITHM 4.2).
//
// Both kinds go in the order of their relevance, so a number of groups decides the width that meets
// the budget, and with it all that goes. There are few such numbers: every one is tried, and the
// one that removes least relevance is taken, neurons and groups together, in relative squared
// changes of the residual stream. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/mask/budget.h"
#include "server/mask/compose.h"
#include "server/mask/cut.h"
#include "server/mask/group_mask.h"

namespace secateur {

// Where an expert with fewer groups is to run.
struct GroupTarget {
  Shape shape = Shape::kUniform;
  int64_t tensor_parallel_degree = 1;  // devices that share the heads of a layer
};

// Numbers of groups that layers can keep, ascending; the model's own is always one. In the masked
// shape any; else Transformers wants the hidden size to be a multiple of the query heads, even
// where head_dim is given, and each device an equal share of the query heads and whole KV heads, or
// one.
std::vector<int64_t> PossibleGroups(const ModelConfig& config, const GroupTarget& target);

// Groups of each layer that stay, by the shape: the same number everywhere, or by layer.
std::vector<std::vector<int32_t>> SelectGroups(const GroupOrder& order, int64_t kept, Shape shape);

// The relevance of the neurons that a cut to `width` removes, summed over layers; `totals` are
// GroupOrder::neuron_totals. REQUIRES: an order of the relative mean, 1 <= width <= m.
double RemovedRelevance(const RemovalOrder& order, const std::vector<double>& totals,
                        int64_t width);

// Possible numbers of groups from half of the model's on, of which the width holds the protected
// neurons of every layer; of equally good ones the larger. As SolveWidth() for each; when none will
// do what it says of the smallest number, OUT_OF_RANGE or a width that is too narrow.
// REQUIRES: order and groups of the model's layers; the order as in RemovedRelevance().
absl::StatusOr<Size> SolveMixed(const ModelConfig& config, const Budget& budget, int64_t alignment,
                                int64_t item_size, const OtherChanges& others,
                                const GroupTarget& target, const RemovalOrder& order,
                                const GroupOrder& groups);

}  // namespace secateur
