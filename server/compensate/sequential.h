// Least squares layer by layer on the cut prefix (ALGORITHM 5.2): what reaches a layer is what the
// cut layers before it pass on, and its target is the base's residual stream, so that a layer makes
// up for the errors before it as well.
//
//   minimise over D:  sum_t q_t ||e(t) - g s_t D a(t)||^2 + lambda ||g D||^2,  W_P becomes W_P + D
//
// a(t): the kept activations in the cut model; e(t): base's minus the cut model's residual stream
// after the layer with W_P; s_t = 1 and g = 1, or where a norm of gain g follows the FFN
// s_t = sqrt(d) / ||o(t)||, to first order; rows whose |g| is below 1 % of its root mean square
// stay as they are. Prior-centred, as least_squares.h.
//
// Memory: two residual streams of the text (tokens x hidden size each, in the compute type) and a
// few matrices of neurons^2 in float64. The caller holds the device. Reports "sequential" in
// layers; stops within one batch or the solves of one layer after a cancel.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/weighted_batch.h"
#include "server/mask/mask.h"
#include "server/model/transformer.h"

namespace secateur {

// Relative to the mean diagonal of the moments; absent: the kept weights stay as they are.
using Ridges = std::vector<std::optional<double>>;

struct SequentialTrial {
  Ridges ridges;             // by layer: of those offered the one that does best on held-out text
  double held_out_nats = 0;  // mean per token, of the model they make
};

// A layer before its FFN is cut, called inside GuardTorch; null stands for the base's own.
using LayerMaker = std::function<LayerWeights(int64_t layer)>;

// Learns from `calibration` and judges by `held_out`, both not empty.
absl::StatusOr<SequentialTrial> TrySequential(const Transformer& base, const Mask& mask,
                                              const std::vector<WeightedBatch>& calibration,
                                              const std::vector<WeightedBatch>& held_out,
                                              const std::vector<double>& ridges,
                                              RunContext& context,
                                              const LayerMaker& layer_of = nullptr);

// Receives a layer's [hidden size, kept] in the stored type of its down_proj. Inside GuardTorch.
using ColumnsSink = std::function<absl::Status(int64_t layer, const at::Tensor& columns)>;

// One ridge for each layer; layers without one are not given to `sink`.
absl::Status SolveSequential(const Transformer& base, const Mask& mask,
                             const std::vector<WeightedBatch>& text, const Ridges& ridges,
                             const ColumnsSink& sink, RunContext& context,
                             const LayerMaker& layer_of = nullptr);

}  // namespace secateur
