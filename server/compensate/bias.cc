#include "server/compensate/bias.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/compensate/cut_layer.h"
#include "server/compensate/layer_sweep.h"
#include "server/model/families.h"
#include "server/model/tensor_table.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

class BiasCompensator {
 public:
  BiasCompensator(const Transformer& base, const MeasuredText& measured,
                  const CompensationOptions& options, RunContext& context)
      : base_(base), measured_(measured), options_(options), context_(context) {}

  absl::StatusOr<Compensated> Run() {
    ASSIGN_OR_RETURN(downs_, StoredTensors(base_, TensorRole::kDown));
    Compensated result;
    result.mask = *options_.plain;
    for (const Compensation compensation : {Compensation::kBias, Compensation::kNone}) {
      if (compensation == Compensation::kNone && !measured_.has_held_out()) break;
      CandidateResult candidate{.compensation = compensation};
      ASSIGN_OR_RETURN(candidate.held_out_nats, HeldOutNats(compensation));
      if (result.candidates.empty() || candidate.held_out_nats < result.chosen.held_out_nats) {
        result.chosen = candidate;
      }
      result.candidates.push_back(candidate);
    }
    for (const std::vector<int32_t>& kept : result.mask.kept) {
      result.layers.push_back({.width = std::ssize(kept)});
    }
    if (result.chosen.compensation == Compensation::kNone) return result;
    ASSIGN_OR_RETURN(result.replaced, ScratchTensors::Create());
    RETURN_IF_ERROR(AddBiases(*result.replaced));
    RETURN_IF_ERROR(result.replaced->Seal());
    return result;
  }

 private:
  at::Tensor Kept(int64_t layer) const {
    return IndexOf(options_.plain->kept[static_cast<size_t>(layer)],
                   base_.layer(layer).down.weight.device());
  }

  // The stored type of a bias: its own, or where the base has none that of down_proj.
  DType TypeOf(const TensorInfo& bias) const {
    const auto own = base_.folder().tensors().Find(bias.name);
    return own.ok() ? own->dtype : downs_[static_cast<size_t>(bias.layer)].dtype;
  }

  // down_proj's bias, [hidden size], float64. `all`: from held-out text as well.
  at::Tensor BiasOf(int64_t layer, const at::Tensor& kept, bool all) const {
    const LinearWeights& down = base_.layer(layer).down;
    const at::Tensor mean = measured_.MeanActivations(layer, all).index_fill(0, kept, 0.0);
    const at::Tensor bias = down.weight.to(at::kDouble).mv(mean);
    return down.bias.defined() ? bias + down.bias.to(at::kDouble) : bias;
  }

  absl::StatusOr<double> HeldOutNats(Compensation compensation) {
    if (!measured_.has_held_out()) return 0.0;
    ASSIGN_OR_RETURN(const auto sweep, LayerSweep::Create(base_, measured_.text().held_out));
    const int64_t layers = base_.config().num_layers;
    for (int64_t layer = 0; layer < layers; ++layer) {
      ASSIGN_OR_RETURN(
          const LayerWeights cut, GuardTorch([&] {
            const LayerWeights& weights = base_.layer(layer);
            const at::Tensor kept = Kept(layer);
            LayerWeights out = CutLayer(weights, kept, weights.down.weight.index_select(1, kept));
            if (compensation == Compensation::kBias) {
              out.down.bias =
                  BiasOf(layer, kept, /*all=*/false).to(weights.down.weight.scalar_type());
            }
            return out;
          }));
      RETURN_IF_ERROR(sweep->Advance(layer, cut, context_));
      context_.Report({"compensate", layer + 1, layers, "layers"});
    }
    return sweep->MeanNats(context_);
  }

  // From all text.
  absl::Status AddBiases(ScratchTensors& tensors) const {
    ModelConfig config = base_.config();
    config.mlp_bias = true;
    for (const TensorInfo& info : TensorTable(config)) {
      const bool missing = IsFfnBias(info.role) && !base_.config().mlp_bias;
      if (!missing && info.role != TensorRole::kDownBias) continue;
      RETURN_IF_ERROR(context_.CheckCancelled());
      RETURN_IF_ERROR(GuardTorch([&] { return AddBias(info, tensors); }));
    }
    return absl::OkStatus();
  }

  absl::Status AddBias(const TensorInfo& info, ScratchTensors& tensors) const {
    const at::Tensor kept = Kept(info.layer);
    const int64_t width = options_.shape == Shape::kMasked ? info.shape[0] : kept.size(0);
    const at::Tensor bias = info.role == TensorRole::kDownBias
                                ? BiasOf(info.layer, kept, /*all=*/true)
                                : at::zeros({width}, at::kDouble);
    const DType type = TypeOf(info);
    const at::Tensor host = bias.to(TorchType(type)).cpu().contiguous();
    return tensors.Add({info.name, type, host.sizes().vec()},
                       {static_cast<const char*>(host.const_data_ptr()), host.nbytes()});
  }

  const Transformer& base_;
  const MeasuredText& measured_;
  const CompensationOptions& options_;
  RunContext& context_;
  std::vector<TensorSpec> downs_;  // of the base
};

}  // namespace

bool CanHoldBias(const ModelConfig& config) {
  const Family* family = FindFamily(config.model_type);
  return family != nullptr && family->mlp_bias;
}

absl::StatusOr<Compensated> CompensateByBias(const Transformer& base, const MeasuredText& measured,
                                             const CompensationOptions& options,
                                             RunContext& context) {
  if (!CanHoldBias(base.config())) {
    return absl::InvalidArgumentError(
        StrCat(base.config().model_type, " has no bias behind its FFN"));
  }
  return BiasCompensator(base, measured, options, context).Run();
}

}  // namespace secateur
