// Widths by layer from measured error curves (ALGORITHM 4.2): where is removing a neuron cheapest?
// Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace secateur {

// What removing neurons of one layer costs, in the best order.
struct RemovalCurve {
  int64_t step = 0;            // neurons, > 0
  std::vector<int32_t> order;  // channels as they go; those that never go are not in it
  // error[i]: after the first min(i * step, order.size()) have gone; error[0] = 0, non-decreasing.
  // Comparable between layers once divided by the size of the layer's residual stream.
  std::vector<double> error;
};

// How many neurons each layer loses so that they are `removed` in all and the summed error is
// least, on the lower convex hulls of the curves: greedy by whole steps, exact where the curves are
// convex. A layer loses at most most_removed[layer], rounded down to whole steps.
// INVALID_ARGUMENT when `removed` is no multiple of the common step, or no such layers can hold it.
absl::StatusOr<std::vector<int64_t>> AllocateRemoved(const std::vector<RemovalCurve>& curves,
                                                     int64_t removed,
                                                     const std::vector<int64_t>& most_removed);

// Half-way between `a` and `b`, which have equal sums, in whole steps, with the same sum.
std::vector<int64_t> HalfWay(const std::vector<int64_t>& a, const std::vector<int64_t>& b,
                             int64_t step);

}  // namespace secateur
