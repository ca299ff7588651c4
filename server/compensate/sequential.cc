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

  void Add(const Observed& other) {
    gram = Mixed(gram, other.gram, 1.0);
    cross.add_(other.cross);
    squared += other.squared;
  }

  // What is left of `squared` with D.
  double ErrorWith(const at::Tensor& change, const at::Tensor& gain) const {
    const at::Tensor gained = gain.defined() ? change * gain : change;
    const at::Tensor both = (gained.matmul(gram.moments.to(at::kDouble)) * gained).sum() -
                            2 * (gained * cross.to(at::kDouble)).sum();
    return squared + both.item<double>();
  }
};

at::Tensor SolveChange(const Observed& observed, const at::Tensor& gain, double ridge) {
  const RidgeFactor factor = FactorWithRidge(observed.gram.moments.to(at::kDouble),
                                             ridge * observed.gram.ordinary_diagonal);
  at::Tensor right = observed.cross.to(at::kDouble);
  if (gain.defined()) {
    const double least = kLeastGain * gain.square().mean().sqrt().item<double>();
    right = at::where(gain.abs() > least, right / gain, 0.0);
  }
  return at::cholesky_solve(right.t(), factor.factor).t();
}

// Text on its way through the cut model, beside the same text in the base.
class CutStream {
 public:
  static absl::StatusOr<std::unique_ptr<CutStream>> Create(const Transformer& base,
                                                           const std::vector<WeightedBatch>& text) {
    std::unique_ptr<CutStream> stream(new CutStream(base));
    ASSIGN_OR_RETURN(stream->sweep_, LayerSweep::Create(base, text));
    return stream;
  }

  // What the layer shows with `plain` weights; `of_base` is behind it already.
  absl::StatusOr<Observed> Observe(int64_t layer, const LayerWeights& plain,
                                   const LayerSweep& of_base, RunContext& context) {
    Observed observed;
    GramSum gram(base_.config().post_norms);
    size_t index = 0;
    const LayerSweep::Observer observer = [&](const WeightedBatch& batch,
                                              const FfnActivation& activation) -> absl::Status {
      RETURN_IF_ERROR(gram.Add(batch, activation));
      return GuardTorch([&] {
        AddCross(batch, activation, of_base.hidden(index++), observed);
        return absl::OkStatus();
      });
    };
    RETURN_IF_ERROR(sweep_->Observe(layer, plain, context, observer));
    RETURN_IF_ERROR(gram.Finish(observed.gram));
    return observed;
  }

  // Ends the layer, whose down_proj has become that of `weights`.
  absl::Status Finish(int64_t layer, const LayerWeights& weights, RunContext& context) {
    return sweep_->Finish(layer, weights, context);
  }

  absl::StatusOr<double> MeanNats(const RunContext& context) const {
    return sweep_->MeanNats(context);
  }

 private:
  explicit CutStream(const Transformer& base) : base_(base) {}

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
  std::unique_ptr<LayerSweep> sweep_;
};

// A layer that is being solved: its weights without compensation, and with it.
class SolvedLayer {
 public:
  SolvedLayer(const LayerWeights& weights, const at::Tensor& kept, at::ScalarType stored)
      : cut_(CutLayer(weights, kept, weights.down.weight.index_select(1, kept))),
        plain_(cut_.down.weight),
        stored_(stored) {}

  const LayerWeights& weights() const { return cut_; }
  // down_proj with the change, rounded to the stored type; weights() has it from then on.
  at::Tensor Change(const at::Tensor& change) {
    const at::Tensor columns = (plain_.to(at::kDouble) + change).to(stored_);
    cut_.down.weight = columns.to(plain_.scalar_type());
    return columns;
  }

 private:
  LayerWeights cut_;
  const at::Tensor plain_;  // down_proj in the kept columns
  const at::ScalarType stored_;
};

absl::Status CheckMask(const Transformer& base, const Mask& mask) {
  if (std::ssize(mask.kept) == base.config().num_layers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("a mask of ", mask.kept.size(), " layers; the base has ", base.config().num_layers));
}

// Of `ridges`, and of none, the one whose change does best on `judge`; undefined for none.
at::Tensor BestChange(const Observed& learn, const Observed& judge, const at::Tensor& gain,
                      const std::vector<double>& ridges, std::optional<double>& chosen) {
  double least = judge.squared;
  at::Tensor best;
  for (const double ridge : ridges) {
    const at::Tensor change = SolveChange(learn, gain, ridge);
    const double error = judge.ErrorWith(change, gain);
    if (!(error < least)) continue;
    least = error;
    chosen = ridge;
    best = change;
  }
  return best;
}

class Solver {
 public:
  static absl::StatusOr<std::unique_ptr<Solver>> Create(const Transformer& base, const Mask& mask,
                                                        const CompensationText& text,
                                                        const std::vector<double>& ridges,
                                                        const LayerMaker& layer_of) {
    std::unique_ptr<Solver> solver(new Solver(base, mask, ridges, layer_of));
    ASSIGN_OR_RETURN(solver->downs_, StoredTensors(base, TensorRole::kDown));
    ASSIGN_OR_RETURN(solver->calibration_, Part::Create(base, text.calibration));
    if (text.held_out.empty()) return solver;
    ASSIGN_OR_RETURN(solver->held_out_, Part::Create(base, text.held_out));
    ASSIGN_OR_RETURN(solver->learning_, CutStream::Create(base, text.calibration));
    ASSIGN_OR_RETURN(solver->judging_, CutStream::Create(base, text.held_out));
    return solver;
  }

  absl::StatusOr<Sequential> Run(const ColumnsSink& sink, RunContext& context) {
    Sequential result;
    for (int64_t layer = 0; layer < base_.config().num_layers; ++layer) {
      RETURN_IF_ERROR(AdvanceBase(layer, context));
      std::optional<double>& ridge = result.ridges.emplace_back();
      if (judging_ == nullptr) {
        ridge = ridges_.front();
      } else {
        ASSIGN_OR_RETURN(ridge, Try(layer, context));
      }
      RETURN_IF_ERROR(Solve(layer, ridge, sink, context));
      context.Report({"sequential", layer + 1, base_.config().num_layers, "layers"});
    }
    if (judging_ != nullptr) {
      ASSIGN_OR_RETURN(result.held_out_nats, judging_->MeanNats(context));
    }
    return result;
  }

 private:
  // A part of the text in the base, and in the model that is kept.
  struct Part {
    std::unique_ptr<LayerSweep> of_base;
    std::unique_ptr<CutStream> of_cut;

    static absl::StatusOr<Part> Create(const Transformer& base,
                                       const std::vector<WeightedBatch>& text) {
      Part part;
      ASSIGN_OR_RETURN(part.of_base, LayerSweep::Create(base, text));
      ASSIGN_OR_RETURN(part.of_cut, CutStream::Create(base, text));
      return part;
    }
  };

  Solver(const Transformer& base, const Mask& mask, const std::vector<double>& ridges,
         const LayerMaker& layer_of)
      : base_(base), mask_(mask), ridges_(ridges), layer_of_(layer_of) {}

  absl::Status AdvanceBase(int64_t layer, RunContext& context) {
    for (const Part* part : {&calibration_, &held_out_}) {
      if (part->of_base == nullptr) continue;
      RETURN_IF_ERROR(part->of_base->Advance(layer, base_.layer(layer), context));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<SolvedLayer> MakeLayer(int64_t layer, bool all) const {
    return GuardTorch([&] {
      const auto index = static_cast<size_t>(layer);
      const LayerWeights weights = layer_of_ ? layer_of_(layer, all) : base_.layer(layer);
      return SolvedLayer(weights, IndexOf(mask_.kept[index], weights.down.weight.device()),
                         TorchType(downs_[index].dtype));
    });
  }

  // One layer of the trial, and the ridge that does best in it.
  absl::StatusOr<std::optional<double>> Try(int64_t layer, RunContext& context) {
    ASSIGN_OR_RETURN(SolvedLayer solved, MakeLayer(layer, /*all=*/false));
    ASSIGN_OR_RETURN(const Observed learnt,
                     learning_->Observe(layer, solved.weights(), *calibration_.of_base, context));
    ASSIGN_OR_RETURN(const Observed judged,
                     judging_->Observe(layer, solved.weights(), *held_out_.of_base, context));
    std::optional<double> ridge;
    RETURN_IF_ERROR(GuardTorch([&] {
      const at::Tensor change =
          BestChange(learnt, judged, PostFfnGain(base_, layer), ridges_, ridge);
      if (ridge) solved.Change(change);
      return absl::OkStatus();
    }));
    RETURN_IF_ERROR(learning_->Finish(layer, solved.weights(), context));
    RETURN_IF_ERROR(judging_->Finish(layer, solved.weights(), context));
    return ridge;
  }

  // One layer of what is kept, from all text.
  absl::Status Solve(int64_t layer, std::optional<double> ridge, const ColumnsSink& sink,
                     RunContext& context) {
    ASSIGN_OR_RETURN(SolvedLayer solved, MakeLayer(layer, /*all=*/true));
    ASSIGN_OR_RETURN(
        Observed observed,
        calibration_.of_cut->Observe(layer, solved.weights(), *calibration_.of_base, context));
    if (held_out_.of_cut != nullptr) {
      ASSIGN_OR_RETURN(
          const Observed held_out,
          held_out_.of_cut->Observe(layer, solved.weights(), *held_out_.of_base, context));
      RETURN_IF_ERROR(GuardTorch([&] {
        observed.Add(held_out);
        return absl::OkStatus();
      }));
    }
    if (ridge) {
      RETURN_IF_ERROR(GuardTorch([&] {
        const at::Tensor change = SolveChange(observed, PostFfnGain(base_, layer), *ridge);
        return sink(layer, solved.Change(change));
      }));
    }
    for (const Part* part : {&calibration_, &held_out_}) {
      if (part->of_cut == nullptr) continue;
      RETURN_IF_ERROR(part->of_cut->Finish(layer, solved.weights(), context));
    }
    return absl::OkStatus();
  }

  const Transformer& base_;
  const Mask& mask_;
  const std::vector<double>& ridges_;
  const LayerMaker& layer_of_;
  std::vector<TensorSpec> downs_;
  Part calibration_;
  Part held_out_;                        // empty without held-out text, as the next two
  std::unique_ptr<CutStream> learning_;  // the trial's calibration text
  std::unique_ptr<CutStream> judging_;   // the trial's held-out text
};

}  // namespace

absl::StatusOr<Sequential> SolveSequential(const Transformer& base, const Mask& mask,
                                           const CompensationText& text,
                                           const std::vector<double>& ridges,
                                           const ColumnsSink& sink, RunContext& context,
                                           const LayerMaker& layer_of) {
  RETURN_IF_ERROR(CheckMask(base, mask));
  ASSIGN_OR_RETURN(const auto solver, Solver::Create(base, mask, text, ridges, layer_of));
  return solver->Run(sink, context);
}

}  // namespace secateur
