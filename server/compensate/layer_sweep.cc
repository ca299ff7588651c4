#include "server/compensate/layer_sweep.h"

#include <cmath>
#include <limits>
#include <utility>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

class ObserverTap final : public ActivationTap {
 public:
  ObserverTap(const WeightedBatch& batch, const LayerSweep::Observer& observer,
              const LayerSweep::AttentionObserver& attention)
      : batch_(batch), observer_(observer), attention_(attention) {}

  absl::Status OnAttention(const PackedBatch&, const AttentionActivation& activation) override {
    return attention_ ? attention_(batch_, activation) : absl::OkStatus();
  }
  absl::Status OnFfn(const PackedBatch&, const FfnActivation& activation) override {
    return observer_ ? observer_(batch_, activation) : absl::OkStatus();
  }

 private:
  const WeightedBatch& batch_;
  const LayerSweep::Observer& observer_;
  const LayerSweep::AttentionObserver& attention_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LayerSweep>> LayerSweep::Create(
    const Transformer& base, const std::vector<WeightedBatch>& batches) {
  std::unique_ptr<LayerSweep> sweep(new LayerSweep(base));
  for (const WeightedBatch& batch : batches) {
    const LayerRunner* workspace =
        sweep->passes_.empty() ? nullptr : &sweep->passes_.front().runner;
    ASSIGN_OR_RETURN(LayerRunner runner,
                     LayerRunner::Create(base.config(), base.device(), batch.batch, workspace));
    ASSIGN_OR_RETURN(at::Tensor hidden, runner.Embed(base.outer()));
    sweep->passes_.push_back({&batch, std::move(runner), std::move(hidden), {}});
  }
  return sweep;
}

absl::Status LayerSweep::Advance(int64_t layer, const LayerWeights& weights, RunContext& context,
                                 const Observer& observer, const AttentionObserver& attention) {
  for (Pass& pass : passes_) {
    RETURN_IF_ERROR(context.CheckCancelled());
    ObserverTap tap(*pass.batch, observer, attention);
    ASSIGN_OR_RETURN(pass.hidden, pass.runner.Forward(layer, weights, pass.hidden,
                                                      observer || attention ? &tap : nullptr));
  }
  return absl::OkStatus();
}

absl::Status LayerSweep::Observe(int64_t layer, const LayerWeights& weights, RunContext& context,
                                 const Observer& observer) {
  const AttentionObserver none;
  for (Pass& pass : passes_) {
    RETURN_IF_ERROR(context.CheckCancelled());
    ObserverTap tap(*pass.batch, observer, none);
    ASSIGN_OR_RETURN(pass.before, pass.runner.ForwardToDown(layer, weights, pass.hidden));
    RETURN_IF_ERROR(pass.runner.ForwardFromDown(layer, weights, pass.before, &tap).status());
    // The runners of all batches share their working memory.
    ASSIGN_OR_RETURN(pass.before.neurons, GuardTorch([&] { return pass.before.neurons.clone(); }));
  }
  return absl::OkStatus();
}

absl::Status LayerSweep::Finish(int64_t layer, const LayerWeights& weights, RunContext& context) {
  for (Pass& pass : passes_) {
    RETURN_IF_ERROR(context.CheckCancelled());
    ASSIGN_OR_RETURN(pass.hidden, pass.runner.ForwardFromDown(layer, weights, pass.before));
    pass.before = {};
  }
  return absl::OkStatus();
}

absl::StatusOr<double> LayerSweep::MeanNats(const RunContext& context) const {
  double nats = 0;
  double weight = 0;
  for (const Pass& pass : passes_) {
    RETURN_IF_ERROR(context.CheckCancelled());
    ASSIGN_OR_RETURN(const at::Tensor hidden, pass.runner.FinalNorm(base_.outer(), pass.hidden));
    ASSIGN_OR_RETURN(const std::vector<double> nll,
                     TokenNll(base_.config(), base_.outer(), hidden, pass.batch->batch));
    const std::vector<int64_t>& offsets = pass.batch->batch.offsets;
    size_t next = 0;
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      for (int64_t token = offsets[i] + 1; token < offsets[i + 1]; ++token) {
        const double counts = pass.batch->weights[static_cast<size_t>(token)];
        nats += counts * nll[next++];
        weight += counts;
      }
    }
  }
  if (!std::isfinite(nats)) return std::numeric_limits<double>::infinity();
  return weight > 0 ? nats / weight : 0.0;
}

}  // namespace secateur
