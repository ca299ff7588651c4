#include "server/compensate/measured_text.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/compensate/layer_sweep.h"
#include "server/compensate/second_order.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// Relative to the mean diagonal of the moments without first tokens.
constexpr double kSelectionRidge = 0.1;
// Orders go this far, so that one serves every size that a budget can ask for.
constexpr double kMostRemoved = 0.9;
constexpr double kLeastResidual = 1e-30;  // of a model that computes nothing

int64_t CountTokens(const std::vector<WeightedBatch>& batches) {
  int64_t tokens = 0;
  for (const WeightedBatch& batch : batches) tokens += batch.batch.tokens();
  return tokens;
}

absl::StatusOr<Gram> Advance(LayerSweep& sweep, const Transformer& base, int64_t layer,
                             RunContext& context) {
  GramSum sum(base.config().post_norms);
  RETURN_IF_ERROR(sweep.Advance(layer, base.layer(layer), context,
                                [&](const WeightedBatch& batch, const FfnActivation& activation) {
                                  return sum.Add(batch, activation);
                                }));
  Gram gram;
  RETURN_IF_ERROR(sum.Finish(gram));
  return gram;
}

}  // namespace

int64_t CompensationText::tokens() const {
  return CountTokens(calibration) + CountTokens(held_out);
}

at::Tensor GainedDown(const Transformer& base, int64_t layer) {
  const LayerWeights& weights = base.layer(layer);
  if (!base.config().post_norms) return GainedDown(weights.down.weight, at::Tensor());
  return GainedDown(weights.down.weight,
                    weights.post_ffn_norm.to(at::kDouble) + base.config().norm_offset);
}

absl::Status MeasuredText::Moments::Add(Gram gram) {
  ASSIGN_OR_RETURN(const at::Tensor host,
                   GuardTorch([&] { return gram.moments.cpu().contiguous(); }));
  const std::string_view bytes(static_cast<const char*>(host.const_data_ptr()), host.nbytes());
  RETURN_IF_ERROR(
      tensors->Add({StrCat(sums.size()), DType::kF32, {host.size(0), host.size(1)}}, bytes));
  gram.moments = at::Tensor();
  gram.residual = std::max(gram.residual, kLeastResidual);
  sums.push_back(std::move(gram));
  return absl::OkStatus();
}

Gram MeasuredText::Moments::Read(int64_t layer, const at::Device& device) const {
  const TensorView& view = *tensors->Find(StrCat(layer));
  Gram gram = sums[static_cast<size_t>(layer)];
  // from_blob takes no pointer to const; the tensor is only read.
  gram.moments =
      at::from_blob(const_cast<char*>(view.bytes.data()), view.shape, at::kFloat).to(device);
  return gram;
}

// The sweep over the layers.
class MeasuredText::Measurer {
 public:
  Measurer(const Transformer& base, bool orders, const ProtectedChannels& protected_channels,
           RunContext& context, MeasuredText& measured)
      : base_(base),
        orders_(orders),
        protected_(protected_channels),
        context_(context),
        measured_(measured) {}

  absl::Status Run() {
    const CompensationText& text = measured_.text_;
    if (text.calibration.empty()) {
      return absl::InvalidArgumentError("compensation needs calibration text");
    }
    if (!protected_.empty() && std::ssize(protected_) != base_.config().num_layers) {
      return absl::InvalidArgumentError(StrCat("neurons of ", protected_.size(),
                                               " layers are protected; the base has ",
                                               base_.config().num_layers));
    }
    ASSIGN_OR_RETURN(measured_.calibration_.tensors, ScratchTensors::Create());
    ASSIGN_OR_RETURN(measured_.held_out_.tensors, ScratchTensors::Create());
    ASSIGN_OR_RETURN(const auto calibration, LayerSweep::Create(base_, text.calibration));
    ASSIGN_OR_RETURN(const auto held_out, LayerSweep::Create(base_, text.held_out));
    const int64_t layers = base_.config().num_layers;
    for (int64_t layer = 0; layer < layers; ++layer) {
      RETURN_IF_ERROR(Layer(layer, *calibration, *held_out));
      context_.Report({"measure", layer + 1, layers, "layers"});
    }
    if (measured_.has_held_out()) {
      ASSIGN_OR_RETURN(measured_.base_held_out_nats_, held_out->MeanNats());
    }
    RETURN_IF_ERROR(measured_.calibration_.tensors->Seal());
    return measured_.held_out_.tensors->Seal();
  }

 private:
  absl::Status Layer(int64_t layer, LayerSweep& calibration, LayerSweep& held_out) {
    ASSIGN_OR_RETURN(Gram gram, Advance(calibration, base_, layer, context_));
    Gram judge;
    if (measured_.has_held_out()) {
      ASSIGN_OR_RETURN(judge, Advance(held_out, base_, layer, context_));
    }
    if (orders_) RETURN_IF_ERROR(Order(layer, gram));
    RETURN_IF_ERROR(Keep(std::move(gram), measured_.calibration_));
    return measured_.has_held_out() ? Keep(std::move(judge), measured_.held_out_)
                                    : absl::OkStatus();
  }

  absl::Status Keep(Gram gram, Moments& moments) {
    measured_.disk_bytes_ += static_cast<int64_t>(gram.moments.nbytes());
    return moments.Add(std::move(gram));
  }

  absl::Status Order(int64_t layer, const Gram& gram) {
    const auto most =
        static_cast<int64_t>(kMostRemoved * static_cast<double>(base_.config().intermediate_size));
    ASSIGN_OR_RETURN(const at::Tensor down, GuardTorch([&] { return GainedDown(base_, layer); }));
    ASSIGN_OR_RETURN(
        RemovalCurve curve,
        OrderBySecondOrder(
            down, gram.moments, kSelectionRidge * gram.ordinary_diagonal, most, kRemovalStep,
            protected_.empty() ? std::vector<uint16_t>() : protected_[static_cast<size_t>(layer)],
            context_));
    for (double& error : curve.error) error /= std::max(gram.residual, kLeastResidual);
    measured_.curves_.push_back(std::move(curve));
    return absl::OkStatus();
  }

  const Transformer& base_;
  const bool orders_;
  const ProtectedChannels& protected_;
  RunContext& context_;
  MeasuredText& measured_;
};

absl::StatusOr<std::shared_ptr<const MeasuredText>> MeasuredText::Measure(
    const Transformer& base, CompensationText text, bool orders, RunContext& context,
    const ProtectedChannels& protected_channels) {
  std::shared_ptr<MeasuredText> measured(
      new MeasuredText(std::move(text), base.layer(0).down.weight.device()));
  RETURN_IF_ERROR(Measurer(base, orders, protected_channels, context, *measured).Run());
  return measured;
}

at::Tensor MeasuredText::MeanActivations(int64_t layer, bool all) const {
  const auto index = static_cast<size_t>(layer);
  at::Tensor sum = calibration_.sums[index].sum.to(at::kDouble);
  double weight = calibration_.sums[index].weight;
  if (all && has_held_out()) {
    sum = sum + held_out_.sums[index].sum.to(at::kDouble);
    weight += held_out_.sums[index].weight;
  }
  return sum / weight;
}

Gram MeasuredText::Calibration(int64_t layer) const { return calibration_.Read(layer, device_); }
Gram MeasuredText::HeldOut(int64_t layer) const { return held_out_.Read(layer, device_); }

}  // namespace secateur
