#include "server/model/transformer.h"

#include <string>
#include <utility>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/model/layers.h"
#include "server/model/rotary.h"
#include "server/model/torch_device.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// `before`: tokens that the sequence has had.
absl::Status CheckSequence(const ModelConfig& config, const PackedBatch& batch, size_t index,
                           int64_t before) {
  const int64_t begin = batch.offsets[index];
  const int64_t end = batch.offsets[index + 1];
  if (end <= begin || begin < 0 || end > batch.tokens()) {
    return absl::InvalidArgumentError(StrCat("sequence ", index,
                                             " is empty or outside the batch: tokens ", begin,
                                             " to ", end, " of ", batch.tokens()));
  }
  if (before + end - begin > config.max_positions) {
    return absl::InvalidArgumentError(StrCat("sequence ", index, " has ", before + end - begin,
                                             " tokens; the model has ", config.max_positions,
                                             " positions"));
  }
  for (int64_t token = begin; token < end; ++token) {
    const int32_t id = batch.ids[static_cast<size_t>(token)];
    if (id < 0 || id >= config.vocabulary_size) {
      return absl::InvalidArgumentError(StrCat("sequence ", index, " holds the token id ", id,
                                               " at position ", token - begin,
                                               "; the vocabulary has ", config.vocabulary_size));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBatch(const ModelConfig& config, const PackedBatch& batch, const KvCache& cache) {
  const auto& offsets = batch.offsets;
  if (offsets.size() < 2 || offsets.front() != 0 || offsets.back() != batch.tokens()) {
    return absl::InvalidArgumentError(StrCat("the offsets of a batch run from 0 to its ",
                                             batch.tokens(), " tokens, and there are ",
                                             offsets.size(), " of them"));
  }
  const bool continues = !cache.empty();
  if (continues &&
      (batch.sequences() != cache.sequences() || batch.tokens() != batch.sequences())) {
    return absl::InvalidArgumentError(StrCat("a batch of ", batch.tokens(), " tokens in ",
                                             batch.sequences(), " sequences cannot continue ",
                                             cache.sequences(), ": each takes one token"));
  }
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    RETURN_IF_ERROR(CheckSequence(config, batch, i, cache.length(i)));
  }
  return absl::OkStatus();
}

int64_t LongestSequence(const PackedBatch& batch, const KvCache& cache) {
  int64_t longest = 0;
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    longest = std::max(longest, cache.length(i) + batch.offsets[i + 1] - batch.offsets[i]);
  }
  return longest;
}

// [tokens]: each token's place in its own sequence.
at::Tensor Positions(const PackedBatch& batch, const KvCache& cache) {
  at::Tensor positions = at::empty({batch.tokens()}, at::kLong);
  int64_t* out = positions.mutable_data_ptr<int64_t>();
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const int64_t begin = batch.offsets[i];
    for (int64_t token = begin; token < batch.offsets[i + 1]; ++token) {
      out[token] = cache.length(i) + token - begin;
    }
  }
  return positions;
}

// Memory that is made for the first layer and used by all: [rows, columns] at the front of it.
class Buffer {
 public:
  at::Tensor Get(int64_t rows, int64_t columns, const at::TensorOptions& options) {
    if (!memory_.defined() || memory_.numel() < rows * columns) {
      memory_ = at::empty({rows * columns}, options);
    }
    return memory_.narrow(0, 0, rows * columns).view({rows, columns});
  }

 private:
  at::Tensor memory_;
};

int64_t Bytes(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
}

int64_t Bytes(const LayerWeights& layer) {
  int64_t bytes = 0;
  for (const at::Tensor* norm : {&layer.input_norm, &layer.post_attention_norm, &layer.pre_ffn_norm,
                                 &layer.post_ffn_norm, &layer.query_norm, &layer.key_norm}) {
    bytes += Bytes(*norm);
  }
  for (const LinearWeights* linear : {&layer.query, &layer.key, &layer.value, &layer.output,
                                      &layer.gate, &layer.up, &layer.down}) {
    bytes += Bytes(linear->weight) + Bytes(linear->bias);
  }
  return bytes;
}

struct Buffers {
  Buffer normed, projected, attended, gate, up, written;
};

}  // namespace

struct LayerRunner::State {
  const ModelConfig& config;
  const PackedBatch& batch;
  at::TensorOptions options;  // device and compute type
  at::Tensor ids, positions;  // [tokens], int32 and int64, on the device
  RotaryTables rotary, local_rotary;
  const std::shared_ptr<Buffers> buffers;
  KvCache* const cache;  // null: sequences are whole

  NormSpec Norm(const at::Tensor& weight) const {
    return {weight, config.norm_offset, config.norm_eps};
  }
  // All but the residual stream.
  AttentionActivation Attention(int64_t layer, const LayerWeights& weights,
                                const at::Tensor& x) const;
  at::Tensor Neurons(const LayerWeights& weights, const at::Tensor& x,
                     const at::Tensor& kept) const;
};

AttentionActivation LayerRunner::State::Attention(int64_t layer, const LayerWeights& weights,
                                                  const at::Tensor& x) const {
  const int64_t tokens = x.size(0);
  const int64_t query_width = config.num_heads * config.head_dim;
  const int64_t kv_width = config.num_kv_heads * config.head_dim;
  const bool local = config.sliding[static_cast<size_t>(layer)];
  at::Tensor projected = buffers->projected.Get(tokens, query_width + 2 * kv_width, options);
  const LinearWeights* const linears[] = {&weights.query, &weights.key, &weights.value};
  ProjectTogether(x, linears, projected);
  at::Tensor query = projected.narrow(1, 0, query_width);
  at::Tensor key = projected.narrow(1, query_width, kv_width);
  const at::Tensor value = projected.narrow(1, query_width + kv_width, kv_width);
  const RotaryTables& tables = local ? local_rotary : rotary;
  NormAndRotate(query, config.head_dim, Norm(weights.query_norm), positions, tables);
  NormAndRotate(key, config.head_dim, Norm(weights.key_norm), positions, tables);
  at::Tensor attended = buffers->attended.Get(tokens, query_width, options);
  const int64_t window = local ? config.sliding_window : 0;
  const bool continues = cache != nullptr && !cache->empty();
  const KvCache::Layer* had = cache == nullptr ? nullptr : &cache->Append(layer, batch, key, value);
  if (continues) {
    AttendNext(query, had->keys, had->values, config, window, attended);
  } else {
    Attend(query, key, value, batch.offsets, config, window, attended);
  }
  at::Tensor written = buffers->written.Get(tokens, config.hidden_size, options);
  Project(attended, weights.output, written);
  return {.layer = layer,
          .window = window,
          .query = query,
          .key = key,
          .heads = attended,
          .output = written,
          .residual = {}};
}

at::Tensor LayerRunner::State::Neurons(const LayerWeights& weights, const at::Tensor& x,
                                       const at::Tensor& kept) const {
  const int64_t width = weights.gate.weight.size(0);
  at::Tensor gate = buffers->gate.Get(x.size(0), width, options);
  at::Tensor up = buffers->up.Get(x.size(0), width, options);
  Project(x, weights.gate, gate);
  Project(x, weights.up, up);
  Gate(gate, up, kept, config.activation);
  return gate;
}

absl::StatusOr<LayerRunner> LayerRunner::Create(const ModelConfig& config, const Device& device,
                                                const PackedBatch& batch,
                                                const LayerRunner* workspace, KvCache* cache) {
  const KvCache none;
  const KvCache& had = cache == nullptr ? none : *cache;
  RETURN_IF_ERROR(CheckBatch(config, batch, had));
  return GuardTorch([&] {
    const at::Device target = TorchDevice(device);
    const int64_t longest = LongestSequence(batch, had);
    const auto tables = [&](const RopeConfig& rope) {
      RotaryTables made = MakeRotaryTables(rope, config.head_dim, longest);
      return RotaryTables{made.cos.to(target), made.sin.to(target)};
    };
    LayerRunner runner;
    runner.state_ = std::shared_ptr<const State>(new State{
        .config = config,
        .batch = batch,
        .options = at::TensorOptions().device(target).dtype(ComputeType(device)),
        .ids = at::from_blob(const_cast<int32_t*>(batch.ids.data()), {batch.tokens()}, at::kInt)
                   .to(target),
        .positions = Positions(batch, had).to(target),
        .rotary = tables(config.rope),
        .local_rotary = config.sliding_window > 0 ? tables(config.local_rope) : RotaryTables{},
        .buffers = workspace == nullptr ? std::make_shared<Buffers>() : workspace->state_->buffers,
        .cache = cache});
    return runner;
  });
}

absl::StatusOr<at::Tensor> LayerRunner::Embed(const OuterWeights& weights) const {
  return GuardTorch([&] {
    at::Tensor rows = weights.embedding.index_select(0, state_->ids);
    // The scale rounds to the type of the weights in use, as in Transformers.
    if (state_->config.embedding_scale != 1.0) {
      rows.mul_(at::scalar_tensor(state_->config.embedding_scale, state_->options));
    }
    return rows;
  });
}

absl::StatusOr<LayerRunner::BeforeDown> LayerRunner::ForwardToDown(int64_t layer,
                                                                   const LayerWeights& weights,
                                                                   const at::Tensor& hidden,
                                                                   ActivationTap* tap,
                                                                   const at::Tensor& kept) const {
  const State& pass = *state_;
  return GuardTorch([&]() -> absl::StatusOr<BeforeDown> {
    at::Tensor normed = pass.buffers->normed.Get(hidden.size(0), hidden.size(1), pass.options);
    at::Tensor residual = at::empty_like(hidden);
    Normalize(hidden, pass.Norm(weights.input_norm), normed);
    AttentionActivation attended = pass.Attention(layer, weights, normed);
    AddNormalized(hidden, attended.output, pass.Norm(weights.post_attention_norm),
                  pass.Norm(weights.pre_ffn_norm), residual, normed);
    if (tap != nullptr) {
      attended.residual = residual;
      RETURN_IF_ERROR(tap->OnAttention(pass.batch, attended));
    }
    return BeforeDown{residual, pass.Neurons(weights, normed, kept)};
  });
}

absl::Status LayerRunner::Finish(int64_t layer, const LayerWeights& weights,
                                 const BeforeDown& before, ActivationTap* tap,
                                 at::Tensor& hidden) const {
  const State& pass = *state_;
  return GuardTorch([&]() -> absl::Status {
    at::Tensor written = pass.buffers->written.Get(hidden.size(0), hidden.size(1), pass.options);
    at::Tensor unused;
    Project(before.neurons, weights.down, written);
    AddNormalized(before.residual, written, pass.Norm(weights.post_ffn_norm), NormSpec{}, hidden,
                  unused);
    if (tap == nullptr) return absl::OkStatus();
    return tap->OnFfn(pass.batch, {layer, before.neurons, written, hidden});
  });
}

absl::StatusOr<at::Tensor> LayerRunner::ForwardFromDown(int64_t layer, const LayerWeights& weights,
                                                        const BeforeDown& before,
                                                        ActivationTap* tap) const {
  ASSIGN_OR_RETURN(at::Tensor hidden, GuardTorch([&] { return at::empty_like(before.residual); }));
  RETURN_IF_ERROR(Finish(layer, weights, before, tap, hidden));
  return hidden;
}

absl::StatusOr<at::Tensor> LayerRunner::Forward(int64_t layer, const LayerWeights& weights,
                                                const at::Tensor& hidden, ActivationTap* tap,
                                                const at::Tensor& kept) const {
  ASSIGN_OR_RETURN(BeforeDown before, ForwardToDown(layer, weights, hidden, tap, kept));
  RETURN_IF_ERROR(Finish(layer, weights, before, tap, before.residual));
  return std::move(before.residual);
}

absl::StatusOr<at::Tensor> LayerRunner::FinalNorm(const OuterWeights& weights,
                                                  const at::Tensor& hidden) const {
  return GuardTorch([&] {
    at::Tensor normed = at::empty_like(hidden);
    Normalize(hidden, state_->Norm(weights.final_norm), normed);
    return normed;
  });
}

int64_t Transformer::resident_bytes() const {
  int64_t bytes = Bytes(outer_.embedding) + Bytes(outer_.final_norm);
  if (!config().tied_embeddings) bytes += Bytes(outer_.head);
  for (const LayerWeights& layer : layers_) bytes += Bytes(layer);
  return bytes;
}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Load(
    std::shared_ptr<const ModelFolder> folder, const Device& device, RunContext& context) {
  std::unique_ptr<Transformer> model(new Transformer(std::move(folder), device));
  const ModelConfig& config = model->config();
  const int64_t total =
      CountParameters(config) * static_cast<int64_t>(c10::elementSize(ComputeType(device)));
  const auto report = [&] {
    context.Report(
        {.phase = "load", .done = model->resident_bytes(), .total = total, .unit = "bytes"});
    return context.CheckCancelled();
  };
  ASSIGN_OR_RETURN(model->outer_, LoadOuter(model->folder(), device));
  model->layers_.reserve(static_cast<size_t>(config.num_layers));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    RETURN_IF_ERROR(report());
    ASSIGN_OR_RETURN(LayerWeights weights, LoadLayer(model->folder(), layer, device));
    model->layers_.push_back(std::move(weights));
  }
  RETURN_IF_ERROR(report());
  return model;
}

absl::StatusOr<at::Tensor> Transformer::Forward(const PackedBatch& batch, RunContext& context,
                                                ActivationTap* tap) const {
  ASSIGN_OR_RETURN(const LayerRunner runner, LayerRunner::Create(config(), device_, batch));
  ASSIGN_OR_RETURN(at::Tensor hidden, runner.Embed(outer_));
  for (int64_t index = 0; index < config().num_layers; ++index) {
    RETURN_IF_ERROR(context.CheckCancelled());
    ASSIGN_OR_RETURN(hidden, runner.Forward(index, layer(index), hidden, tap));
  }
  return runner.FinalNorm(outer_, hidden);
}

absl::StatusOr<at::Tensor> Transformer::Logits(const at::Tensor& hidden) const {
  return GuardTorch([&] { return at::linear(hidden, outer_.head).to(at::kFloat); });
}

}  // namespace secateur
