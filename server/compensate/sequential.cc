#include "server/compensate/sequential.h"

#include <limits>
#include <memory>
#include <string>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/compensate/cut_layer.h"
#include "server/compensate/gram.h"
#include "server/compensate/layer_sweep.h"
#include "server/compensate/least_squares.h"
#include "server/model/layers.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// Rows of a post norm's gain smaller than this, of its root mean square, are left alone: what they
// write hardly reaches the residual stream, and dividing by them would make the weights large.
constexpr double kLeastGain = 0.01;

// The gain of the norm that follows a layer's FFN, [hidden size, 1], float64; undefined for none.
at::Tensor PostFfnGain(const Transformer& base, int64_t layer) {
  const at::Tensor gain = PostNormGain(base.config(), base.layer(layer).post_ffn_norm);
  return gain.defined() ? gain.unsqueeze(1) : gain;
}

// What a layer of the cut model shows on some text.
struct Observed {
  Gram gram;           // of the kept activations
  at::Tensor cross;    // [hidden size, kept], float32: sum_t q_t s_t e(t) a(t)'
  double squared = 0;  // sum_t q_t ||e(t)||^2

  // What is left of `squared` with D.
  double ErrorWith(const at::Tensor& change, const at::Tensor& gain) const {
    const at::Tensor gained = gain.defined() ? change * gain : change;
    const at::Tensor both = (gained.matmul(gram.moments.to(at::kDouble)) * gained).sum() -
                            2 * (gained * cross.to(at::kDouble)).sum();
    return squared + both.item<double>();
  }
};

at::Tensor Solve(const Observed& observed, const at::Tensor& gain, double ridge) {
  const RidgeFactor factor = FactorWithRidge(observed.gram.moments.to(at::kDouble),
                                             ridge * observed.gram.ordinary_diagonal);
  at::Tensor right = observed.cross.to(at::kDouble);
  if (gain.defined()) {
    const double least = kLeastGain * gain.square().mean().sqrt().item<double>();
    right = at::where(gain.abs() > least, right / gain, 0.0);
  }
  return at::cholesky_solve(right.t(), factor.factor).t();
}

// Text on its way through the base and through the cut model, side by side.
class SideBySide {
 public:
  static absl::StatusOr<std::unique_ptr<SideBySide>> Create(
      const Transformer& base, const std::vector<WeightedBatch>& text) {
    std::unique_ptr<SideBySide> both(new SideBySide(base));
    ASSIGN_OR_RETURN(both->of_base_, LayerSweep::Create(base, text));
    ASSIGN_OR_RETURN(both->of_cut_, LayerSweep::Create(base, text));
    return both;
  }

  // The base's stream goes through `layer`, the cut model's is seen in it, with `plain` weights.
  absl::StatusOr<Observed> Observe(int64_t layer, const LayerWeights& plain, RunContext& context) {
    RETURN_IF_ERROR(of_base_->Advance(layer, base_.layer(layer), context));
    Observed observed;
    GramSum gram(base_.config().post_norms);
    size_t index = 0;
    const LayerSweep::Observer observer = [&](const WeightedBatch& batch,
                                              const FfnActivation& activation) -> absl::Status {
      RETURN_IF_ERROR(gram.Add(batch, activation));
      return GuardTorch([&] {
        AddCross(batch, activation, of_base_->hidden(index++), observed);
        return absl::OkStatus();
      });
    };
    RETURN_IF_ERROR(of_cut_->Observe(layer, plain, context, observer));
    RETURN_IF_ERROR(gram.Finish(observed.gram));
    return observed;
  }

  absl::Status Advance(int64_t layer, const LayerWeights& solved, RunContext& context) {
    return of_cut_->Advance(layer, solved, context);
  }

  absl::StatusOr<double> CutNats() const { return of_cut_->MeanNats(); }

 private:
  explicit SideBySide(const Transformer& base) : base_(base) {}

  void AddCross(const WeightedBatch& batch, const FfnActivation& activation,
                const at::Tensor& target, Observed& observed) const {
    const at::Tensor neurons = activation.neurons.to(at::kFloat);
    const at::Tensor tokens = TokenWeights(batch, neurons.device());
    const at::Tensor scales =
        base_.config().post_norms ? tokens * PostNormWeights(activation.output).sqrt() : tokens;
    const at::Tensor missing = target.to(at::kFloat) - activation.residual.to(at::kFloat);
    const at::Tensor product = (missing * scales.unsqueeze(1)).t().matmul(neurons);
    observed.cross = observed.cross.defined() ? observed.cross.add_(product) : product;
    observed.squared += (missing.square().sum(1) * tokens).sum(at::kDouble).item<double>();
  }

  const Transformer& base_;
  std::unique_ptr<LayerSweep> of_base_;
  std::unique_ptr<LayerSweep> of_cut_;
};

// A layer that is being solved: its weights without compensation, and with it.
class SolvedLayer {
 public:
  SolvedLayer(const Transformer& base, const Mask& mask, int64_t layer, const LayerMaker& layer_of)
      : weights_(layer_of ? layer_of(layer) : base.layer(layer)),
        kept_(IndexOf(mask.kept[static_cast<size_t>(layer)], weights_.down.weight.device())),
        columns_(weights_.down.weight.index_select(1, kept_)) {}

  LayerWeights Plain() const { return CutLayer(weights_, kept_, columns_); }
  at::Tensor Columns(const at::Tensor& change, at::ScalarType stored) const {
    return (columns_.to(at::kDouble) + change).to(stored);
  }
  LayerWeights With(const at::Tensor& columns) const {
    return CutLayer(weights_, kept_, columns.to(columns_.scalar_type()));
  }

 private:
  const LayerWeights weights_;
  const at::Tensor kept_;
  const at::Tensor columns_;
};

absl::Status CheckMask(const Transformer& base, const Mask& mask) {
  if (std::ssize(mask.kept) == base.config().num_layers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("a mask of ", mask.kept.size(), " layers; the base has ", base.config().num_layers));
}

// Of `ridges`, and of none, the one whose change does best on `judge`.
at::Tensor BestChange(const Observed& learn, const Observed& judge, const at::Tensor& gain,
                      const std::vector<double>& ridges, std::optional<double>& chosen) {
  double least = judge.squared;
  at::Tensor best;
  for (const double ridge : ridges) {
    const at::Tensor change = Solve(learn, gain, ridge);
    const double error = judge.ErrorWith(change, gain);
    if (!(error < least)) continue;
    least = error;
    chosen = ridge;
    best = change;
  }
  return best;
}

}  // namespace

absl::StatusOr<SequentialTrial> TrySequential(const Transformer& base, const Mask& mask,
                                              const std::vector<WeightedBatch>& calibration,
                                              const std::vector<WeightedBatch>& held_out,
                                              const std::vector<double>& ridges,
                                              RunContext& context, const LayerMaker& layer_of) {
  RETURN_IF_ERROR(CheckMask(base, mask));
  ASSIGN_OR_RETURN(const std::vector<TensorSpec> downs, StoredTensors(base, TensorRole::kDown));
  ASSIGN_OR_RETURN(const auto learn, SideBySide::Create(base, calibration));
  ASSIGN_OR_RETURN(const auto judge, SideBySide::Create(base, held_out));
  SequentialTrial trial;
  for (int64_t layer = 0; layer < base.config().num_layers; ++layer) {
    std::optional<SolvedLayer> solved;
    ASSIGN_OR_RETURN(LayerWeights weights, GuardTorch([&] {
                       return solved.emplace(base, mask, layer, layer_of).Plain();
                     }));
    ASSIGN_OR_RETURN(const Observed learnt, learn->Observe(layer, weights, context));
    ASSIGN_OR_RETURN(const Observed judged, judge->Observe(layer, weights, context));
    std::optional<double>& ridge = trial.ridges.emplace_back();
    RETURN_IF_ERROR(GuardTorch([&] {
      const at::Tensor change = BestChange(learnt, judged, PostFfnGain(base, layer), ridges, ridge);
      if (ridge) {
        weights = solved->With(
            solved->Columns(change, TorchType(downs[static_cast<size_t>(layer)].dtype)));
      }
      return absl::OkStatus();
    }));
    RETURN_IF_ERROR(learn->Advance(layer, weights, context));
    RETURN_IF_ERROR(judge->Advance(layer, weights, context));
    context.Report({"sequential", layer + 1, base.config().num_layers, "layers"});
  }
  ASSIGN_OR_RETURN(trial.held_out_nats, judge->CutNats());
  return trial;
}

absl::Status SolveSequential(const Transformer& base, const Mask& mask,
                             const std::vector<WeightedBatch>& text, const Ridges& ridges,
                             const ColumnsSink& sink, RunContext& context,
                             const LayerMaker& layer_of) {
  RETURN_IF_ERROR(CheckMask(base, mask));
  ASSIGN_OR_RETURN(const std::vector<TensorSpec> downs, StoredTensors(base, TensorRole::kDown));
  ASSIGN_OR_RETURN(const auto streams, SideBySide::Create(base, text));
  for (int64_t layer = 0; layer < base.config().num_layers; ++layer) {
    std::optional<SolvedLayer> solved;
    ASSIGN_OR_RETURN(LayerWeights weights, GuardTorch([&] {
                       return solved.emplace(base, mask, layer, layer_of).Plain();
                     }));
    ASSIGN_OR_RETURN(const Observed observed, streams->Observe(layer, weights, context));
    const auto index = static_cast<size_t>(layer);
    if (ridges[index]) {
      RETURN_IF_ERROR(GuardTorch([&] {
        const at::Tensor columns =
            solved->Columns(Solve(observed, PostFfnGain(base, layer), *ridges[index]),
                            TorchType(downs[index].dtype));
        weights = solved->With(columns);
        return sink(layer, columns);
      }));
    }
    RETURN_IF_ERROR(streams->Advance(layer, weights, context));
    context.Report({"sequential", layer + 1, base.config().num_layers, "layers"});
  }
  return absl::OkStatus();
}

}  // namespace secateur
