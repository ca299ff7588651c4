// Scores of attention from the paper's definitions, slowly: rows and columns are zeroed in the
// weights and the sublayer runs again, maps of attention are held whole, in float64. Pairs of
// queries and keys score half the variance of their logits, whose order is compared with the
// divergence itself.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "server/model/transformer.h"
#include "tests/support/status_matchers.h"

namespace secateur {

// What the attention of one layer shows, copied.
class AttentionTap final : public ActivationTap {
 public:
  absl::Status OnAttention(const PackedBatch&, const AttentionActivation& activation) override {
    layers.push_back({.layer = activation.layer,
                      .window = activation.window,
                      .query = activation.query.clone(),
                      .key = activation.key.clone(),
                      .heads = activation.heads.clone(),
                      .output = activation.output.clone(),
                      .residual = activation.residual.clone()});
    return absl::OkStatus();
  }
  absl::Status OnFfn(const PackedBatch&, const FfnActivation&) override { return absl::OkStatus(); }
  std::vector<AttentionActivation> layers;
};

inline std::vector<AttentionActivation> Record(const Transformer& model, const PackedBatch& block) {
  AttentionTap tap;
  RunContext context;
  EXPECT_OK(model.Forward(block, context, &tap).status());
  return tap.layers;
}

// A layer that can be run again with other weights on the stream that it had.
class OneLayer {
 public:
  OneLayer(const Transformer& model, const PackedBatch& block, int64_t layer)
      : model_(model), layer_(layer) {
    runner_ = LayerRunner::Create(model.config(), model.device(), block).value();
    hidden_ = runner_->Embed(model.outer()).value();
    for (int64_t l = 0; l < layer; ++l) {
      hidden_ = runner_->Forward(l, model.layer(l), hidden_).value();
    }
  }

  AttentionActivation Run(const LayerWeights& weights) const {
    AttentionTap tap;
    Run(weights, tap);
    return tap.layers.at(0);
  }
  void Run(const LayerWeights& weights, ActivationTap& tap) const {
    EXPECT_OK(runner_->Forward(layer_, weights, hidden_, &tap).status());
  }
  const LayerWeights& weights() const { return model_.layer(layer_); }

 private:
  const Transformer& model_;
  const int64_t layer_;
  std::optional<LayerRunner> runner_;
  at::Tensor hidden_;
};

// Zeros in the rows (of the bias, too) or columns of a copy.
inline LinearWeights WithoutRows(const LinearWeights& linear, const std::vector<int64_t>& rows) {
  LinearWeights zeroed{.weight = linear.weight.clone(), .bias = {}};
  if (linear.bias.defined()) zeroed.bias = linear.bias.clone();
  for (const int64_t row : rows) {
    zeroed.weight.select(0, row).zero_();
    if (zeroed.bias.defined()) zeroed.bias.select(0, row).zero_();
  }
  return zeroed;
}

inline LinearWeights WithoutColumns(const LinearWeights& linear, int64_t first, int64_t count) {
  LinearWeights zeroed{.weight = linear.weight.clone(), .bias = linear.bias};
  zeroed.weight.narrow(1, first, count).zero_();
  return zeroed;
}

// Squared Frobenius norm of what changed in the document's rows of `output`, a token.
inline double Change(const AttentionActivation& a, const AttentionActivation& b, int64_t begin,
                     int64_t end) {
  const at::Tensor change =
      (a.output.to(at::kDouble) - b.output.to(at::kDouble)).slice(0, begin, end);
  return change.square().sum().item<double>() / static_cast<double>(end - begin);
}

// [document][unit] of a set of scores.
using Scores = std::vector<std::vector<double>>;

template <class Zero, class Measure = decltype(&Change)>
Scores ZeroOneByOne(const OneLayer& layer, const std::vector<int64_t>& offsets, int64_t units,
                    const Zero& zero, const Measure& measure = &Change) {
  const AttentionActivation whole = layer.Run(layer.weights());
  Scores scores(offsets.size() - 1, std::vector<double>(static_cast<size_t>(units)));
  for (int64_t unit = 0; unit < units; ++unit) {
    LayerWeights weights = layer.weights();
    zero(weights, unit);
    const AttentionActivation without = layer.Run(weights);
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      scores[i][static_cast<size_t>(unit)] = measure(whole, without, offsets[i], offsets[i + 1]);
    }
  }
  return scores;
}

// A head's map of attention of one document in float64: [tokens, tokens].
inline at::Tensor MapOf(const at::Tensor& logits, int64_t window) {
  const int64_t tokens = logits.size(0);
  at::Tensor seen = at::ones({tokens, tokens}, at::kBool).tril();
  if (window > 0) seen = seen.logical_and(at::ones({tokens, tokens}, at::kBool).triu(1 - window));
  return logits.masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity())
      .softmax(1);
}

// A query head of one document and the keys it reads: [tokens, head_dim] in float64.
struct Head {
  at::Tensor query, key;
};

inline Head HeadOf(const AttentionActivation& shown, const ModelConfig& config, int64_t head,
                   int64_t begin, int64_t end) {
  const int64_t kv_head = head / (config.num_heads / config.num_kv_heads);
  const auto columns = [&](const at::Tensor& x, int64_t which) {
    return x.slice(0, begin, end)
        .narrow(1, which * config.head_dim, config.head_dim)
        .to(at::kDouble);
  };
  return {.query = columns(shown.query, head), .key = columns(shown.key, kv_head)};
}

// What the rotated pair gives to the logits: [tokens, tokens].
inline at::Tensor PairLogits(const Head& head, const ModelConfig& config, int64_t pair) {
  const int64_t other = pair + config.head_dim / 2;
  const auto outer = [&](int64_t j) {
    return at::outer(head.query.select(1, j), head.key.select(1, j));
  };
  return (outer(pair) + outer(other)) * config.attention_scale;
}

// Sums of measure(map, logits, pair's logits) over the heads that read the pair's KV head, a token.
template <class Measure>
std::vector<double> OfPairs(const AttentionActivation& shown, const ModelConfig& config,
                            int64_t begin, int64_t end, const Measure& measure) {
  const int64_t half = config.head_dim / 2;
  std::vector<double> scores(static_cast<size_t>(config.num_kv_heads * half));
  for (int64_t h = 0; h < config.num_heads; ++h) {
    const int64_t kv_head = h / (config.num_heads / config.num_kv_heads);
    const Head head = HeadOf(shown, config, h, begin, end);
    const at::Tensor logits = head.query.mm(head.key.t()) * config.attention_scale;
    const at::Tensor map = MapOf(logits, shown.window);
    for (int64_t pair = 0; pair < half; ++pair) {
      const at::Tensor sum = measure(map, logits, PairLogits(head, config, pair));
      scores[static_cast<size_t>(kv_head * half + pair)] +=
          sum.item<double>() / static_cast<double>(end - begin);
    }
  }
  return scores;
}

// 1/2 Var of the pair's logits under the map, of all tokens.
inline at::Tensor SecondOrder(const at::Tensor& map, const at::Tensor& delta) {
  const at::Tensor mean = (map * delta).sum(1, true);
  return 0.5 * (map * (delta - mean).square()).sum();
}

// Squared changes a token of each document without a column of o_proj, H e of them.
inline Scores SlowOutputScores(const Transformer& model, const PackedBatch& block, int64_t layer) {
  const ModelConfig& config = model.config();
  return ZeroOneByOne({model, block, layer}, block.offsets, config.num_heads * config.head_dim,
                      [](LayerWeights& weights, int64_t unit) {
                        weights.output = WithoutColumns(weights.output, unit, 1);
                      });
}

// The same without a row of v_proj, G e of them.
inline Scores SlowValueScores(const Transformer& model, const PackedBatch& block, int64_t layer) {
  const ModelConfig& config = model.config();
  return ZeroOneByOne({model, block, layer}, block.offsets, config.num_kv_heads * config.head_dim,
                      [](LayerWeights& weights, int64_t unit) {
                        weights.value = WithoutRows(weights.value, {unit});
                      });
}

// The mean over the document's tokens of the squared change of what the sublayer gives the residual
// stream, relative to the stream; through a norm behind attention to first order (ALGORITHM 2.4).
inline double RelativeChange(const ModelConfig& config, const LayerWeights& weights,
                             const AttentionActivation& whole, const AttentionActivation& without,
                             int64_t begin, int64_t end) {
  const auto rows = [&](const at::Tensor& x) { return x.slice(0, begin, end).to(at::kDouble); };
  at::Tensor change = rows(whole.output) - rows(without.output);
  if (config.post_norms) {
    const at::Tensor gain = weights.post_attention_norm.to(at::kDouble) + config.norm_offset;
    change = change * gain / rows(whole.output).square().mean(1, true).sqrt();
  }
  const at::Tensor size = rows(whole.residual).square().sum(1);
  return (change.square().sum(1) / size).mean().item<double>();
}

// Such changes of each document without the columns of o_proj that read a KV head group.
inline Scores SlowGroupScores(const Transformer& model, const PackedBatch& block, int64_t layer) {
  const ModelConfig& config = model.config();
  const int64_t width = config.num_heads / config.num_kv_heads * config.head_dim;
  return ZeroOneByOne(
      {model, block, layer}, block.offsets, config.num_kv_heads,
      [width](LayerWeights& weights, int64_t group) {
        weights.output = WithoutColumns(weights.output, group * width, width);
      },
      [&](const AttentionActivation& whole, const AttentionActivation& without, int64_t begin,
          int64_t end) {
        return RelativeChange(config, model.layer(layer), whole, without, begin, end);
      });
}

// Half the variance of each pair's logits under the whole map, a token, G e/2 of them.
inline Scores SlowPairScores(const AttentionActivation& shown, const ModelConfig& config,
                             const std::vector<int64_t>& offsets) {
  Scores scores;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    scores.push_back(OfPairs(shown, config, offsets[i], offsets[i + 1],
                             [](const at::Tensor& map, const at::Tensor&, const at::Tensor& delta) {
                               return SecondOrder(map, delta);
                             }));
  }
  return scores;
}

}  // namespace secateur
