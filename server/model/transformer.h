// The forward pass of a decoder: prefill only, packed sequences, no cache.
//
// Sequences of one batch do not see one another: linear layers run over the packed rows, attention
// per sequence. Inference mode; libtorch's exceptions come back as Status (RESOURCE_EXHAUSTED when
// memory ran out, INTERNAL otherwise). One forward pass at a time per device: the caller sees to it
// (pipeline/resident_models.h); weights are immutable.
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/model/activation_tap.h"
#include "server/model/kv_cache.h"
#include "server/model/packed_batch.h"
#include "server/model/weights.h"

namespace secateur {

// The pieces, for callers that hold one layer at a time (verification, streaming). `hidden` is
// [tokens, d] on the device. `kept`, if defined, is a [intermediate_size] tensor of 0 and 1 in the
// compute type that the neurons are multiplied with: the mask applied without slicing.
class LayerRunner {
 public:
  // Precomputes rotary tables for `batch`. Keeps references to `config` and `batch`. Runners that
  // take turns may share the working memory of one of them, `workspace`. With `cache`, which the
  // runner appends to, `batch` holds what comes next of each sequence: in the first pass any
  // tokens, then one each; the caller calls cache->Finish() after the last layer. INVALID_ARGUMENT
  // for an id outside the vocabulary, an empty sequence, one longer than max_positions, or one that
  // does not continue the cache's.
  static absl::StatusOr<LayerRunner> Create(const ModelConfig& config, const Device& device,
                                            const PackedBatch& batch,
                                            const LayerRunner* workspace = nullptr,
                                            KvCache* cache = nullptr);

  absl::StatusOr<at::Tensor> Embed(const OuterWeights& weights) const;
  absl::StatusOr<at::Tensor> Forward(int64_t layer, const LayerWeights& weights,
                                     const at::Tensor& hidden, ActivationTap* tap = nullptr,
                                     const at::Tensor& kept = {}) const;

  // Forward() in two steps, for who decides on down_proj in between.
  struct BeforeDown {
    at::Tensor residual;  // the stream after attention, [tokens, d]
    at::Tensor neurons;   // what down_proj reads; in the working memory, gone with the next pass
  };
  absl::StatusOr<BeforeDown> ForwardToDown(int64_t layer, const LayerWeights& weights,
                                           const at::Tensor& hidden, ActivationTap* tap = nullptr,
                                           const at::Tensor& kept = {}) const;
  // Reads down_proj and the norm behind it alone, and leaves `before` as it is.
  absl::StatusOr<at::Tensor> ForwardFromDown(int64_t layer, const LayerWeights& weights,
                                             const BeforeDown& before,
                                             ActivationTap* tap = nullptr) const;

  absl::StatusOr<at::Tensor> FinalNorm(const OuterWeights& weights, const at::Tensor& hidden) const;

 private:
  struct State;
  // hidden = what ForwardFromDown() returns; may be before.residual.
  absl::Status Finish(int64_t layer, const LayerWeights& weights, const BeforeDown& before,
                      ActivationTap* tap, at::Tensor& hidden) const;

  std::shared_ptr<const State> state_;
};

class Transformer {
 public:
  // Loads every layer. Reports "load" in bytes.
  static absl::StatusOr<std::unique_ptr<Transformer>> Load(
      std::shared_ptr<const ModelFolder> folder, const Device& device, RunContext& context);

  const ModelFolder& folder() const { return *folder_; }
  const ModelConfig& config() const { return folder_->config(); }
  const Device& device() const { return device_; }
  int64_t resident_bytes() const;  // of all weights in the compute type
  const OuterWeights& outer() const { return outer_; }
  const LayerWeights& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }

  // [tokens, d] after the final norm. Checks for cancellation between layers.
  absl::StatusOr<at::Tensor> Forward(const PackedBatch& batch, RunContext& context,
                                     ActivationTap* tap = nullptr) const;
  // [rows, vocabulary] in float32 for rows of Forward()'s result.
  absl::StatusOr<at::Tensor> Logits(const at::Tensor& hidden) const;

 private:
  Transformer(std::shared_ptr<const ModelFolder> folder, Device device)
      : folder_(std::move(folder)), device_(std::move(device)) {}
  const std::shared_ptr<const ModelFolder> folder_;
  const Device device_;
  OuterWeights outer_;
  std::vector<LayerWeights> layers_;
};

// Negative log-likelihoods in nats of each token given those before it, sequence by sequence (the
// first token of a sequence has none), from logits of some positions and a part of the vocabulary
// at a time, so that no [tokens, vocabulary] tensor exists. With `starts`, only tokens from
// starts[i] >= 1 on of sequence i, which may be past its end; INVALID_ARGUMENT when there is not
// one for each sequence.
absl::StatusOr<std::vector<double>> TokenNll(const ModelConfig& config, const OuterWeights& outer,
                                             const at::Tensor& hidden, const PackedBatch& batch,
                                             const std::vector<int64_t>& starts = {});

// Roughly what a forward pass over a batch of so many tokens and their TokenNll() take beside the
// weights, in float32: rows as wide as the stream and as the FFN, and a part of the logits.
int64_t PassBytes(const ModelConfig& config, int64_t tokens);

}  // namespace secateur
