#include "server/compensate/compensate.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/compensate/attention_cut.h"
#include "server/compensate/bias.h"
#include "server/compensate/cut_layer.h"
#include "server/compensate/layer_sweep.h"
#include "server/compensate/least_squares.h"
#include "server/compensate/sequential.h"
#include "server/model/tensor_table.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// What widths by layer may take from a layer, and from the first and last ones if guarded.
constexpr double kMostRemovedByLayer = 0.7;
constexpr double kMostRemovedGuarded = 0.2;
constexpr Guard kGuards[] = {{2, 2, 0}, {2, 2, 1}, {4, 2, 1}, {4, 2, 2}, {4, 2, 3}};
// Beside them the curve and half-way to it.
static_assert(kMaskedCandidates == kUniformCandidates + 2 + std::ssize(kGuards));

// All channels but the first `removed` of `order`, ascending.
std::vector<int32_t> KeptAfter(const std::vector<int32_t>& order, int64_t removed, int64_t width) {
  std::vector<bool> stays(static_cast<size_t>(width), true);
  for (size_t i = 0; i < static_cast<size_t>(removed); ++i) {
    stays[static_cast<size_t>(order[i])] = false;
  }
  std::vector<int32_t> kept;
  for (size_t channel = 0; channel < stays.size(); ++channel) {
    if (stays[channel]) kept.push_back(static_cast<int32_t>(channel));
  }
  return kept;
}

struct Candidate {
  CandidateResult result;
  Mask mask;
};

class Compensator {
 public:
  Compensator(const Transformer& base, const MeasuredText& measured,
              const CompensationOptions& options, RunContext& context)
      : base_(base),
        config_(base.config()),
        measured_(measured),
        options_(options),
        context_(context),
        layers_(static_cast<size_t>(config_.num_layers)) {}

  absl::StatusOr<Compensated> Run() {
    RETURN_IF_ERROR(Check());
    ASSIGN_OR_RETURN(downs_, StoredTensors(base_, TensorRole::kDown));
    ASSIGN_OR_RETURN(auto attention, AttentionCut::Create(base_, measured_, *options_.plain));
    attention_.emplace(std::move(attention));
    RETURN_IF_ERROR(TuneRidges());
    std::vector<Candidate> candidates = MakeCandidates();
    RETURN_IF_ERROR(Judge(candidates));
    if (options_.compensation == Compensation::kSequential) {
      RETURN_IF_ERROR(AddSequential(candidates));
    }
    const auto best = Best(candidates);
    for (const Candidate& candidate : candidates) result_.candidates.push_back(candidate.result);
    result_.chosen = best->result;
    result_.mask = std::move(best->mask);
    result_.mask.attention = options_.plain->attention;
    RETURN_IF_ERROR(SolveWinner());
    return std::move(result_);
  }

 private:
  bool judged() const { return measured_.has_held_out(); }
  bool ordered() const { return !measured_.curves().empty(); }
  at::Device device() const { return base_.layer(0).down.weight.device(); }
  int64_t width() const { return config_.intermediate_size; }
  const std::vector<int32_t>& Plain(int64_t layer) const {
    return options_.plain->kept[static_cast<size_t>(layer)];
  }
  int64_t uniform_removed() const { return width() - static_cast<int64_t>(Plain(0).size()); }

  absl::Status Check() const {
    if (!ordered()) return absl::OkStatus();
    if (measured_.curves().size() != layers_.size()) {
      return absl::InvalidArgumentError(StrCat("there are removal orders of ",
                                               measured_.curves().size(), " layers; the base has ",
                                               layers_.size()));
    }
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      const int64_t most = std::ssize(measured_.curves()[layer].order);
      if (uniform_removed() <= most) continue;
      return absl::InvalidArgumentError(StrCat("the removal order of layer ", layer, " ends at ",
                                               most, " of ", width(), " neurons; the mask removes ",
                                               uniform_removed()));
    }
    return absl::OkStatus();
  }

  using Candidates = std::vector<Candidate>;

  // What candidates take a layer from: the base's with what stays of its attention, and what was
  // solved of its FFN by width, since candidates of equal ones keep the same neurons.
  struct JudgedLayer {
    LayerWeights plain;
    LayerWeights compensated;
    Gram gram;
    std::map<size_t, at::Tensor> solved;
  };

  static Candidates::iterator Best(Candidates& candidates) {
    return std::min_element(candidates.begin(), candidates.end(),
                            [](const Candidate& a, const Candidate& b) {
                              return a.result.held_out_nats < b.result.held_out_nats;
                            });
  }

  // The neurons that a cut of one width for all layers keeps.
  std::vector<int32_t> UniformKept(int64_t layer) const {
    if (!ordered()) return Plain(layer);
    return KeptAfter(measured_.curves()[static_cast<size_t>(layer)].order, uniform_removed(),
                     width());
  }

  absl::Status TuneRidges() {
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      LayerCompensation& tuned = layers_[static_cast<size_t>(layer)];
      if (!judged()) {
        tuned.ridge = kUntunedRidge;
        continue;
      }
      RETURN_IF_ERROR(GuardTorch([&]() -> absl::Status {
        ASSIGN_OR_RETURN(const RidgeChoice choice,
                         ChooseRidge(GainedDown(base_, layer), measured_.Calibration(layer),
                                     measured_.HeldOut(layer), IndexOf(Plain(layer), device()),
                                     IndexOf(UniformKept(layer), device()), context_));
        tuned.ridge = choice.ridge;
        tuned.plain_error = choice.plain_error;
        tuned.error = choice.error;
        return absl::OkStatus();
      }));
      context_.Report({"tune", layer + 1, config_.num_layers, "layers"});
    }
    if (!attention_->any()) return absl::OkStatus();
    RETURN_IF_ERROR(attention_->Tune(context_));
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      layers_[layer].attention = attention_->choices()[layer];
    }
    return absl::OkStatus();
  }

  Candidate Ordered(WidthsBy widths, const std::vector<int64_t>& removed) const {
    Candidate candidate{.result = {.widths = widths}, .mask = {}};
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      candidate.mask.kept.push_back(
          KeptAfter(measured_.curves()[layer].order, removed[layer], width()));
    }
    return candidate;
  }

  std::vector<Candidate> MakeCandidates() const {
    std::vector<Candidate> candidates;
    if (ordered()) {
      const std::vector<int64_t> uniform(layers_.size(), uniform_removed());
      candidates.push_back(Ordered(WidthsBy::kUniform, uniform));
      if (judged() && options_.shape == Shape::kMasked) AddWidthsByLayer(uniform, candidates);
    } else {
      candidates.push_back({.result = {}, .mask = *options_.plain});
    }
    if (judged()) {
      candidates.push_back(
          {.result = {.compensation = Compensation::kNone}, .mask = *options_.plain});
    }
    return candidates;
  }

  void AddWidthsByLayer(const std::vector<int64_t>& uniform,
                        std::vector<Candidate>& candidates) const {
    const int64_t total = uniform[0] * config_.num_layers;
    const auto share = [&](double most) {
      return static_cast<int64_t>(most * static_cast<double>(width()));
    };
    std::vector<int64_t> most(layers_.size(), std::max(share(kMostRemovedByLayer), uniform[0]));
    // What cannot be reached in whole steps, or within the limits, is not tried.
    if (const auto curve = AllocateRemoved(measured_.curves(), total, most); curve.ok()) {
      candidates.push_back(Ordered(WidthsBy::kHalfWay, HalfWay(uniform, *curve, kRemovalStep)));
      candidates.push_back(Ordered(WidthsBy::kCurve, *curve));
    }
    for (const Guard& guard : kGuards) {
      const auto guarded = AllocateRemoved(Tilted(guard.tilt), total,
                                           Guarded(guard, most, share(kMostRemovedGuarded)));
      if (!guarded.ok()) continue;
      Candidate candidate = Ordered(WidthsBy::kGuardedCurve, *guarded);
      candidate.result.guard = guard;
      // Of models with few layers several guards come to the same.
      const bool known = std::any_of(candidates.begin(), candidates.end(),
                                     [&](const Candidate& c) { return c.mask == candidate.mask; });
      if (!known) candidates.push_back(std::move(candidate));
    }
  }

  // The curves with late layers counting more.
  std::vector<RemovalCurve> Tilted(double tilt) const {
    std::vector<RemovalCurve> curves = measured_.curves();
    for (size_t layer = 0; layer < curves.size(); ++layer) {
      const double depth =
          static_cast<double>(layer) / static_cast<double>(std::max<size_t>(curves.size() - 1, 1));
      for (double& error : curves[layer].error) error *= std::exp(tilt * depth);
    }
    return curves;
  }

  static std::vector<int64_t> Guarded(const Guard& guard, std::vector<int64_t> most,
                                      int64_t most_guarded) {
    const auto layers = static_cast<int64_t>(most.size());
    for (int64_t layer = 0; layer < layers; ++layer) {
      if (layer >= guard.first_layers && layer < layers - guard.last_layers) continue;
      most[static_cast<size_t>(layer)] = most_guarded;
    }
    return most;
  }

  // down_proj for the kept neurons in the type it will be stored in: [hidden size, kept].
  at::Tensor Columns(int64_t layer, const at::Tensor& kept, const Gram& gram) const {
    const at::Tensor& down = base_.layer(layer).down.weight;
    const std::optional<double> ridge = layers_[static_cast<size_t>(layer)].ridge;
    const at::Tensor solved =
        ridge ? SolveLeastSquares(down, gram.moments, kept, *ridge * gram.ordinary_diagonal)
              : down.index_select(1, kept);
    return solved.to(TorchType(downs_[static_cast<size_t>(layer)].dtype));
  }

  // Held-out text through every candidate.
  absl::Status Judge(std::vector<Candidate>& candidates) {
    if (!judged()) return absl::OkStatus();
    std::vector<std::unique_ptr<LayerSweep>> sweeps;
    for (size_t i = 0; i < candidates.size(); ++i) {
      ASSIGN_OR_RETURN(sweeps.emplace_back(), LayerSweep::Create(base_, measured_.text().held_out));
    }
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      ASSIGN_OR_RETURN(JudgedLayer judged_layer, GuardTorch([&] {
                         return JudgedLayer{.plain = attention_->Plain(layer),
                                            .compensated = attention_->Compensated(layer, false),
                                            .gram = measured_.Calibration(layer),
                                            .solved = {}};
                       }));
      for (size_t i = 0; i < candidates.size(); ++i) {
        RETURN_IF_ERROR(context_.CheckCancelled());
        ASSIGN_OR_RETURN(const LayerWeights cut, GuardTorch([&] {
                           return CandidateLayer(layer, candidates[i], judged_layer);
                         }));
        RETURN_IF_ERROR(sweeps[i]->Advance(layer, cut, context_));
      }
      context_.Report({"compensate", layer + 1, config_.num_layers, "layers"});
    }
    for (size_t i = 0; i < candidates.size(); ++i) {
      ASSIGN_OR_RETURN(candidates[i].result.held_out_nats, sweeps[i]->MeanNats(context_));
      context_.Report({"judge", static_cast<int64_t>(i) + 1, std::ssize(candidates), "candidates"});
    }
    return absl::OkStatus();
  }

  LayerWeights CandidateLayer(int64_t layer, const Candidate& candidate,
                              JudgedLayer& judged) const {
    const std::vector<int32_t>& channels = candidate.mask.kept[static_cast<size_t>(layer)];
    const at::Tensor kept = IndexOf(channels, device());
    if (candidate.result.compensation == Compensation::kNone) {
      return CutLayer(judged.plain, kept, judged.plain.down.weight.index_select(1, kept));
    }
    at::Tensor& columns = judged.solved[channels.size()];
    if (!columns.defined()) {
      columns = Columns(layer, kept, judged.gram).to(judged.compensated.down.weight.scalar_type());
    }
    return CutLayer(judged.compensated, kept, columns);
  }

  // The best of what least squares made, solved on the cut prefix instead. Without held-out text it
  // is the only candidate.
  absl::Status AddSequential(Candidates& candidates) {
    Candidates compensated;
    for (const Candidate& candidate : candidates) {
      if (candidate.result.compensation != Compensation::kNone) compensated.push_back(candidate);
    }
    Candidate sequential = *Best(compensated);
    sequential.result.compensation = Compensation::kSequential;
    ASSIGN_OR_RETURN(sequential_.replaced, ScratchTensors::Create());
    const std::vector<double> ridges = judged()
                                           ? std::vector<double>{kRidges.begin(), kRidges.end()}
                                           : std::vector<double>{kUntunedRidge};
    ASSIGN_OR_RETURN(
        sequential_.made,
        SolveSequential(
            base_, sequential.mask, measured_.text(), ridges,
            [&](int64_t layer, const at::Tensor& columns) {
              return ReplaceDown(*sequential_.replaced, sequential.mask, layer, columns);
            },
            context_,
            [this](int64_t layer, bool all) { return attention_->Compensated(layer, all); }));
    sequential.result.held_out_nats = sequential_.made.held_out_nats;
    if (!judged()) candidates.clear();
    candidates.push_back(std::move(sequential));
    return absl::OkStatus();
  }

  // Every layer's down_proj with all text.
  absl::Status SolveWinner() {
    const Compensation compensation = result_.chosen.compensation;
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      LayerCompensation& tuned = layers_[layer];
      tuned.width = std::ssize(result_.mask.kept[layer]);
      if (compensation == Compensation::kSequential) tuned.ridge = sequential_.made.ridges[layer];
      if (compensation != Compensation::kNone) continue;
      tuned.ridge.reset();
      tuned.error = tuned.plain_error;
      tuned.attention.ridge.reset();
      tuned.attention.error = tuned.attention.plain_error;
    }
    if (compensation != Compensation::kNone) {
      if (compensation == Compensation::kSequential) {
        result_.replaced = std::move(sequential_.replaced);
      } else {
        ASSIGN_OR_RETURN(result_.replaced, ScratchTensors::Create());
        RETURN_IF_ERROR(SolveOnBase());
      }
      RETURN_IF_ERROR(SolveAttention());
      RETURN_IF_ERROR(result_.replaced->Seal());
    }
    result_.layers = std::move(layers_);
    return absl::OkStatus();
  }

  absl::Status SolveOnBase() {
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      RETURN_IF_ERROR(context_.CheckCancelled());
      if (layers_[static_cast<size_t>(layer)].ridge) {
        RETURN_IF_ERROR(GuardTorch([&] {
          Gram gram = measured_.Calibration(layer);
          if (judged()) gram = Mixed(gram, measured_.HeldOut(layer), 1.0);
          const at::Tensor kept = IndexOf(result_.mask.kept[static_cast<size_t>(layer)], device());
          return ReplaceDown(*result_.replaced, result_.mask, layer, Columns(layer, kept, gram));
        }));
      }
      context_.Report({"solve", layer + 1, config_.num_layers, "layers"});
    }
    return absl::OkStatus();
  }

  absl::Status SolveAttention() {
    if (!attention_->any()) return absl::OkStatus();
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      RETURN_IF_ERROR(context_.CheckCancelled());
      if (layers_[static_cast<size_t>(layer)].attention.ridge) {
        RETURN_IF_ERROR(GuardTorch([&] {
          return Replace(*result_.replaced, attention_->spec(layer),
                         base_.layer(layer).output.weight.size(1), attention_->kept(layer),
                         attention_->Columns(layer, /*all=*/true));
        }));
      }
      context_.Report({"solve_attention", layer + 1, config_.num_layers, "layers"});
    }
    return absl::OkStatus();
  }

  absl::Status ReplaceDown(ScratchTensors& into, const Mask& mask, int64_t layer,
                           const at::Tensor& columns) {
    const auto index = static_cast<size_t>(layer);
    return Replace(into, downs_[index], width(), mask.kept[index], columns);
  }

  // `columns`: [hidden size, kept], in the stored type; `all`: columns of the base.
  absl::Status Replace(ScratchTensors& into, TensorSpec spec, int64_t all,
                       const std::vector<int32_t>& kept, at::Tensor columns) {
    if (options_.shape == Shape::kMasked) {
      columns = at::zeros({columns.size(0), all}, columns.options())
                    .index_copy(1, IndexOf(kept, device()), columns);
    }
    const at::Tensor host = columns.cpu().contiguous();
    spec.shape = host.sizes().vec();
    return into.Add(spec, {static_cast<const char*>(host.const_data_ptr()), host.nbytes()});
  }

  const Transformer& base_;
  const ModelConfig& config_;
  const MeasuredText& measured_;
  const CompensationOptions& options_;
  RunContext& context_;
  std::vector<TensorSpec> downs_;  // of the base's down_proj tensors, without their shapes
  std::optional<AttentionCut> attention_;
  std::vector<LayerCompensation> layers_;
  struct {
    Sequential made;
    std::unique_ptr<ScratchTensors> replaced;
  } sequential_;  // where that was tried
  Compensated result_;
};

}  // namespace

absl::StatusOr<Compensated> Compensate(const Transformer& base, const MeasuredText& measured,
                                       const CompensationOptions& options, RunContext& context) {
  if (options.plain == nullptr || std::ssize(options.plain->kept) != base.config().num_layers) {
    return absl::InvalidArgumentError("compensation needs a mask of the base's layers");
  }
  return options.compensation == Compensation::kBias
             ? CompensateByBias(base, measured, options, context)
             : Compensator(base, measured, options, context).Run();
}

}  // namespace secateur
