// A base's layers with channels of their attention gone, and least squares on o_proj for those that
// stay: what remains of the heads takes over what the others wrote.
//
// Removed channels are zeros in o_proj, which is all that a forward pass needs to know: what no
// column reads changes nothing. One thread at a time; the caller holds the device.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/measured_text.h"
#include "server/compensate/ridge.h"
#include "server/format/tensor_writer.h"
#include "server/mask/mask.h"
#include "server/model/transformer.h"

namespace secateur {

class AttentionCut {
 public:
  // `base`, `measured` and `mask` must outlive it. A mask that keeps all of attention leaves layers
  // as they are. INVALID_ARGUMENT when the mask takes some and the text was measured without
  // attention.
  static absl::StatusOr<AttentionCut> Create(const Transformer& base, const MeasuredText& measured,
                                             const Mask& mask);

  // Whether the mask takes any.
  bool any() const { return !mask_.attention.empty(); }
  // Chooses the ridge of every layer that loses channels; kUntunedRidge without held-out text.
  // REQUIRES: any().
  absl::Status Tune(RunContext& context);
  // By layer, after Tune(); empty before.
  const std::vector<RidgeChoice>& choices() const { return choices_; }

  // The base's layer with o_proj as it is in the columns that stay.
  LayerWeights Plain(int64_t layer) const;
  // The same with least squares on calibration text, with `all` on held-out text as well, rounded
  // to the stored type; Plain() where no ridge did good. Inside GuardTorch, as the next.
  LayerWeights Compensated(int64_t layer, bool all) const;
  // [hidden size, kept], in the stored type. REQUIRES: the layer has a ridge.
  at::Tensor Columns(int64_t layer, bool all) const;

  // Name and stored type of o_proj, without its shape.
  const TensorSpec& spec(int64_t layer) const { return specs_[static_cast<size_t>(layer)]; }
  const std::vector<int32_t>& kept(int64_t layer) const {
    return mask_.attention[static_cast<size_t>(layer)].output;
  }

 private:
  AttentionCut(const Transformer& base, const MeasuredText& measured, const Mask& mask)
      : base_(base), measured_(measured), mask_(mask) {}
  LayerWeights With(int64_t layer, const at::Tensor& columns) const;

  const Transformer& base_;
  const MeasuredText& measured_;
  const Mask& mask_;
  std::vector<TensorSpec> specs_;
  std::vector<RidgeChoice> choices_;
};

}  // namespace secateur
