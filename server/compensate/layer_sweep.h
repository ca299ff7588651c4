// Documents on their way through a model, all together, one layer at a time: what is learnt from a
// layer can decide what the next one sees, and only one layer need be held.
//
// Memory: the residual streams, tokens x hidden size in the compute type, and the working memory of
// the largest batch. One thread at a time; the caller holds the device.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/weighted_batch.h"
#include "server/model/activation_tap.h"
#include "server/model/transformer.h"

namespace secateur {

class LayerSweep {
 public:
  using Observer = std::function<absl::Status(const WeightedBatch&, const FfnActivation&)>;
  using AttentionObserver =
      std::function<absl::Status(const WeightedBatch&, const AttentionActivation&)>;

  // `base` lends its embedding, final norm and head; it and `batches` must outlive the sweep.
  static absl::StatusOr<std::unique_ptr<LayerSweep>> Create(
      const Transformer& base, const std::vector<WeightedBatch>& batches);

  // All batches through layer `layer`, whose weights may be cut and compensated: layers in order,
  // each once. Observers, if any, see every batch. Checks for cancellation before each batch.
  absl::Status Advance(int64_t layer, const LayerWeights& weights, RunContext& context,
                       const Observer& observer = nullptr,
                       const AttentionObserver& attention = nullptr);
  // Advance() in two steps, for who decides on down_proj by what it reads: shows what Advance()
  // would show, and Finish(), which takes down_proj and the norm behind it alone, ends it. In
  // between it holds what down_proj reads, tokens x width, and a second stream.
  absl::Status Observe(int64_t layer, const LayerWeights& weights, RunContext& context,
                       const Observer& observer);
  absl::Status Finish(int64_t layer, const LayerWeights& weights, RunContext& context);

  // The residual stream of batch `batch`: [tokens, hidden size].
  const at::Tensor& hidden(size_t batch) const { return passes_[batch].hidden; }

  // After the last layer: mean negative log-likelihood of the tokens that have one, in nats, each
  // counted by its weight. 0 without tokens, infinity where the model overflows. Checks for
  // cancellation before each batch.
  absl::StatusOr<double> MeanNats(const RunContext& context) const;

 private:
  struct Pass {
    const WeightedBatch* batch;
    LayerRunner runner;
    at::Tensor hidden;
    LayerRunner::BeforeDown before;  // between Observe() and Finish()
  };
  explicit LayerSweep(const Transformer& base) : base_(base) {}

  const Transformer& base_;
  std::vector<Pass> passes_;
};

}  // namespace secateur
