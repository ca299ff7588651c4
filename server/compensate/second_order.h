// Second-order selection (the optimal brain surgeon on whole neurons; ALGORITHM 0.1): neurons go in
// the order in which the others can best make up for them.
//
// With H = (G + lambda I)^-1, removing block R adds tr(W_R H_RR^-1 W_R') to the regularised error
// tr((W' - W) (G + lambda I) (W' - W)'), and leaves its minimum
//   W' -= W'_R H_RR^-1 H_R.,   H -= H_.R H_RR^-1 H_R.
// which is the ridge solution for what is left. Each step takes the neurons with the smallest
// ||w'_k||^2 / H_kk. One order serves every size: the first n of it are what a cut by n removes.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/mask/allocate.h"

namespace secateur {

// down: [hidden size, neurons], gained (Gained); moments: [neurons, neurons]. Removes
// `most_removed` neurons, `step` at a time but never a protected one (fewer, if too few others are
// left), and records the order and the error after each step:
// tr((W' - W) G (W' - W)'), without the ridge's own terms, which would lean towards layers of small
// weights. Checks for cancellation at each step.
// `lambda` as in FactorWithRidge (least_squares.h).
absl::StatusOr<RemovalCurve> OrderBySecondOrder(const at::Tensor& down, const at::Tensor& moments,
                                                double lambda, int64_t most_removed, int64_t step,
                                                const std::vector<uint16_t>& protected_channels,
                                                const RunContext& context);

}  // namespace secateur
