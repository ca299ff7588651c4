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
// With held-out text a trial goes along: what calibration text alone makes of each layer decides on
// its ridge, and how the model that comes of that predicts held-out text says what SEQUENTIAL is
// worth. What is kept is solved with both.
//
// Memory: four residual streams of the text (tokens x hidden size each, in the compute type), one
// layer's kept activations (tokens x width) and a few matrices of neurons^2 in float64. The caller
// holds the device. Reports "sequential" in layers; stops within one batch or the solves of one
// layer after a cancel.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/measured_text.h"
#include "server/mask/mask.h"
#include "server/model/transformer.h"

namespace secateur {

struct Sequential {
  // By layer: of those offered the one that does best on held-out text, relative to the mean
  // diagonal of the moments; absent where the kept weights stay as they are.
  std::vector<std::optional<double>> ridges;
  double held_out_nats = 0;  // mean per token, of the trial; 0 without held-out text
};

// A layer before its FFN is cut, of the trial or (`all`) of what is kept, called inside GuardTorch;
// null stands for the base's own.
using LayerMaker = std::function<LayerWeights(int64_t layer, bool all)>;

// Receives a layer's [hidden size, kept] in the stored type of its down_proj. Inside GuardTorch.
using ColumnsSink = std::function<absl::Status(int64_t layer, const at::Tensor& columns)>;

// Layers without a ridge are not given to `sink`. Without held-out text every layer takes
// ridges.front(). INVALID_ARGUMENT for a mask of another model. REQUIRES: calibration text, and
// without held-out text a ridge.
absl::StatusOr<Sequential> SolveSequential(const Transformer& base, const Mask& mask,
                                           const CompensationText& text,
                                           const std::vector<double>& ridges,
                                           const ColumnsSink& sink, RunContext& context,
                                           const LayerMaker& layer_of = nullptr);

}  // namespace secateur
