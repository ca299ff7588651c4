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
#include "server/model/layers.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// Relative to the mean diagonal of the moments without first tokens.
constexpr double kSelectionRidge = 0.1;
constexpr double kLeastResidual = 1e-30;  // of a model that computes nothing

int64_t CountTokens(const std::vector<WeightedBatch>& batches) {
  int64_t tokens = 0;
  for (const WeightedBatch& batch : batches) tokens += batch.batch.tokens();
  return tokens;
}

// What a layer shows on one part of the text.
struct LayerMoments {
  Gram ffn;
  Gram attention;  // if asked for
};

absl::StatusOr<LayerMoments> Advance(LayerSweep& sweep, const Transformer& base, int64_t layer,
                                     bool attention, RunContext& context) {
  GramSum ffn(base.config().post_norms);
  GramSum heads(base.config().post_norms);
  LayerSweep::AttentionObserver see_attention;
  if (attention) {
    see_attention = [&](const WeightedBatch& batch, const AttentionActivation& activation) {
      return heads.Add(batch, activation);
    };
  }
  RETURN_IF_ERROR(sweep.Advance(
      layer, base.layer(layer), context,
      [&](const WeightedBatch& batch, const FfnActivation& activation) {
        return ffn.Add(batch, activation);
      },
      see_attention));
  LayerMoments moments;
  RETURN_IF_ERROR(ffn.Finish(moments.ffn));
  if (attention) RETURN_IF_ERROR(heads.Finish(moments.attention));
  return moments;
}

}  // namespace

int64_t CompensationText::tokens() const {
  return CountTokens(calibration) + CountTokens(held_out);
}

at::Tensor GainedDown(const Transformer& base, int64_t layer) {
  const LayerWeights& weights = base.layer(layer);
  return Gained(weights.down.weight, PostNormGain(base.config(), weights.post_ffn_norm));
}

at::Tensor GainedOutput(const Transformer& base, int64_t layer) {
  const LayerWeights& weights = base.layer(layer);
  return Gained(weights.output.weight, PostNormGain(base.config(), weights.post_attention_norm));
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
  Measurer(const Transformer& base, const MeasureOptions& options, RunContext& context,
           MeasuredText& measured)
      : base_(base), options_(options), context_(context), measured_(measured) {}

  absl::Status Run() {
    const CompensationText& text = measured_.text_;
    if (text.calibration.empty()) {
      return absl::InvalidArgumentError("compensation needs calibration text");
    }
    const ProtectedChannels& channels = options_.protected_channels;
    if (!channels.empty() && std::ssize(channels) != base_.config().num_layers) {
      return absl::InvalidArgumentError(StrCat("neurons of ", channels.size(),
                                               " layers are protected; the base has ",
                                               base_.config().num_layers));
    }
    for (Moments* moments : AllMoments()) {
      ASSIGN_OR_RETURN(moments->tensors, ScratchTensors::Create());
    }
    ASSIGN_OR_RETURN(const auto calibration, LayerSweep::Create(base_, text.calibration));
    ASSIGN_OR_RETURN(const auto held_out, LayerSweep::Create(base_, text.held_out));
    const int64_t layers = base_.config().num_layers;
    for (int64_t layer = 0; layer < layers; ++layer) {
      RETURN_IF_ERROR(Layer(layer, *calibration, *held_out));
      context_.Report({"measure", layer + 1, layers, "layers"});
    }
    if (measured_.has_held_out()) {
      ASSIGN_OR_RETURN(measured_.base_held_out_nats_, held_out->MeanNats(context_));
    }
    for (Moments* moments : AllMoments()) RETURN_IF_ERROR(moments->tensors->Seal());
    return absl::OkStatus();
  }

 private:
  std::vector<Moments*> AllMoments() const {
    std::vector<Moments*> all = {&measured_.calibration_, &measured_.held_out_};
    if (options_.attention) {
      all.insert(all.end(), {&measured_.calibration_attention_, &measured_.held_out_attention_});
    }
    return all;
  }

  absl::Status Layer(int64_t layer, LayerSweep& calibration, LayerSweep& held_out) {
    ASSIGN_OR_RETURN(LayerMoments learnt,
                     Advance(calibration, base_, layer, options_.attention, context_));
    if (options_.orders) RETURN_IF_ERROR(Order(layer, learnt.ffn));
    RETURN_IF_ERROR(Keep(std::move(learnt.ffn), measured_.calibration_));
    RETURN_IF_ERROR(Keep(std::move(learnt.attention), measured_.calibration_attention_));
    if (!measured_.has_held_out()) return absl::OkStatus();
    ASSIGN_OR_RETURN(LayerMoments judge,
                     Advance(held_out, base_, layer, options_.attention, context_));
    RETURN_IF_ERROR(Keep(std::move(judge.ffn), measured_.held_out_));
    return Keep(std::move(judge.attention), measured_.held_out_attention_);
  }

  absl::Status Keep(Gram gram, Moments& moments) {
    if (!gram.moments.defined()) return absl::OkStatus();
    measured_.disk_bytes_ += static_cast<int64_t>(gram.moments.nbytes());
    return moments.Add(std::move(gram));
  }

  absl::Status Order(int64_t layer, const Gram& gram) {
    // All but one neuron, so that one order serves every size that a budget can ask for.
    const int64_t most = base_.config().intermediate_size - 1;
    ASSIGN_OR_RETURN(const at::Tensor down, GuardTorch([&] { return GainedDown(base_, layer); }));
    ASSIGN_OR_RETURN(
        RemovalCurve curve,
        OrderBySecondOrder(down, gram.moments, kSelectionRidge * gram.ordinary_diagonal, most,
                           kRemovalStep,
                           options_.protected_channels.empty()
                               ? std::vector<uint16_t>()
                               : options_.protected_channels[static_cast<size_t>(layer)],
                           context_));
    for (double& error : curve.error) error /= std::max(gram.residual, kLeastResidual);
    measured_.curves_.push_back(std::move(curve));
    return absl::OkStatus();
  }

  const Transformer& base_;
  const MeasureOptions& options_;
  RunContext& context_;
  MeasuredText& measured_;
};

absl::StatusOr<std::shared_ptr<const MeasuredText>> MeasuredText::Measure(
    const Transformer& base, CompensationText text, const MeasureOptions& options,
    RunContext& context) {
  std::shared_ptr<MeasuredText> measured(
      new MeasuredText(std::move(text), base.layer(0).down.weight.device()));
  RETURN_IF_ERROR(Measurer(base, options, context, *measured).Run());
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
Gram MeasuredText::AttentionCalibration(int64_t layer) const {
  return calibration_attention_.Read(layer, device_);
}
Gram MeasuredText::AttentionHeldOut(int64_t layer) const {
  return held_out_attention_.Read(layer, device_);
}

}  // namespace secateur
