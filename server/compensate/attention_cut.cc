#include "server/compensate/attention_cut.h"

#include <iterator>
#include <utility>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/compensate/cut_layer.h"
#include "server/compensate/least_squares.h"
#include "server/model/tensor_table.h"
#include "server/model/torch_guard.h"

namespace secateur {

absl::StatusOr<AttentionCut> AttentionCut::Create(const Transformer& base,
                                                  const MeasuredText& measured, const Mask& mask) {
  AttentionCut cut(base, measured, mask);
  if (!cut.any()) return cut;
  if (std::ssize(mask.attention) != base.config().num_layers) {
    return absl::InvalidArgumentError(StrCat("a mask with attention of ", mask.attention.size(),
                                             " layers; the base has ", base.config().num_layers));
  }
  if (!measured.has_attention()) {
    return absl::InvalidArgumentError(
        "the mask takes channels of attention, which the text was measured without");
  }
  ASSIGN_OR_RETURN(cut.specs_, StoredTensors(base, TensorRole::kOutput));
  return cut;
}

absl::Status AttentionCut::Tune(RunContext& context) {
  for (int64_t layer = 0; layer < base_.config().num_layers; ++layer) {
    const bool whole = std::ssize(kept(layer)) == base_.layer(layer).output.weight.size(1);
    RidgeChoice choice;
    if (!whole && !measured_.has_held_out()) choice.ridge = kUntunedRidge;
    if (!whole && measured_.has_held_out()) {
      RETURN_IF_ERROR(GuardTorch([&]() -> absl::Status {
        const at::Tensor output = GainedOutput(base_, layer);
        const at::Tensor channels = IndexOf(kept(layer), output.device());
        ASSIGN_OR_RETURN(
            choice, ChooseRidge(output, measured_.AttentionCalibration(layer),
                                measured_.AttentionHeldOut(layer), channels, channels, context));
        return absl::OkStatus();
      }));
    }
    choices_.push_back(choice);
    context.Report({"tune_attention", layer + 1, base_.config().num_layers, "layers"});
  }
  return absl::OkStatus();
}

LayerWeights AttentionCut::With(int64_t layer, const at::Tensor& columns) const {
  LayerWeights cut = base_.layer(layer);
  if (!any()) return cut;
  at::Tensor& output = cut.output.weight;
  const at::Tensor channels = IndexOf(kept(layer), output.device());
  output = at::zeros_like(output).index_copy(1, channels, columns.to(output.scalar_type()));
  return cut;
}

LayerWeights AttentionCut::Plain(int64_t layer) const {
  const at::Tensor& output = base_.layer(layer).output.weight;
  if (!any()) return base_.layer(layer);
  return With(layer, output.index_select(1, IndexOf(kept(layer), output.device())));
}

LayerWeights AttentionCut::Compensated(int64_t layer, bool all) const {
  const bool solved = any() && choices_[static_cast<size_t>(layer)].ridge.has_value();
  return solved ? With(layer, Columns(layer, all)) : Plain(layer);
}

at::Tensor AttentionCut::Columns(int64_t layer, bool all) const {
  const at::Tensor& output = base_.layer(layer).output.weight;
  Gram gram = measured_.AttentionCalibration(layer);
  if (all && measured_.has_held_out()) gram = Mixed(gram, measured_.AttentionHeldOut(layer), 1.0);
  const double ridge = *choices_[static_cast<size_t>(layer)].ridge;
  return SolveLeastSquares(output, gram.moments, IndexOf(kept(layer), output.device()),
                           ridge * gram.ordinary_diagonal)
      .to(TorchType(spec(layer).dtype));
}

}  // namespace secateur
