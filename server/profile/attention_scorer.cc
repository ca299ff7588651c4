#include "server/profile/attention_scorer.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "server/model/layers.h"
#include "server/profile/attention_sums.h"

namespace secateur {
namespace {

int64_t GroupSize(const ModelConfig& config) { return config.num_heads / config.num_kv_heads; }

// As the kernels want them.
at::Tensor OnCpu(const at::Tensor& x) {
  const at::Tensor values = x.to(at::kCPU, at::kFloat);
  return values.stride(1) == 1 ? values : values.contiguous();
}

// See AttentionScorer::products_.
std::vector<double> HeadProducts(const at::Tensor& output, const ModelConfig& config) {
  const int64_t group = GroupSize(config);
  std::vector<double> products;
  for (int64_t kv_head = 0; kv_head < config.num_kv_heads; ++kv_head) {
    const at::Tensor columns =
        output.narrow(1, kv_head * group * config.head_dim, group * config.head_dim)
            .to(at::kCPU, at::kDouble)
            .unflatten(1, {group, config.head_dim});
    for (int64_t a = 0; a < group; ++a) {
      for (int64_t b = a; b < group; ++b) {
        const at::Tensor sums =
            ((columns.select(1, a) * columns.select(1, b)).sum(0) * (a == b ? 1.0 : 2.0))
                .contiguous();
        const double* first = sums.const_data_ptr<double>();
        products.insert(products.end(), first, first + config.head_dim);
      }
    }
  }
  return products;
}

TokenRows RowsOf(const at::Tensor& x, int64_t begin, int64_t end, int64_t column) {
  return {.first = x.const_data_ptr<float>() + begin * x.stride(0) + column,
          .tokens = end - begin,
          .stride = x.stride(0)};
}

// [tokens, kv_heads * MomentWidth]: what takes the place of values.
at::Tensor Moments(const at::Tensor& key, const std::vector<int64_t>& offsets,
                   const ModelConfig& config) {
  const int64_t width = MomentWidth(config.head_dim);
  at::Tensor moments = at::empty({key.size(0), config.num_kv_heads * width});
  float* out = moments.mutable_data_ptr<float>();
  const auto documents = static_cast<int64_t>(offsets.size()) - 1;
  at::parallel_for(
      0, documents * config.num_kv_heads, /*grain_size=*/1, [&](int64_t first, int64_t last) {
        for (int64_t task = first; task < last; ++task) {
          const auto i = static_cast<size_t>(task / config.num_kv_heads);
          const int64_t kv_head = task % config.num_kv_heads;
          MakeMoments(RowsOf(key, offsets[i], offsets[i + 1], kv_head * config.head_dim),
                      config.head_dim, out + offsets[i] * moments.stride(0) + kv_head * width,
                      moments.stride(0));
        }
      });
  return moments;
}

// scores[i] = factor * sums[i].
void Scale(const double* sums, int64_t count, double factor, float* scores) {
  for (int64_t i = 0; i < count; ++i) scores[i] = static_cast<float>(sums[i] * factor);
}

}  // namespace

// A block's activations where the kernels can read them.
struct AttentionScorer::Rows {
  at::Tensor query;  // [tokens, heads * head_dim]
  at::Tensor heads;  // the same shape
  at::Tensor means;  // [tokens, heads * MomentWidth]
};

AttentionScorer::AttentionScorer(const Transformer& model) : model_(model) {
  for (int64_t layer = 0; layer < model.config().num_layers; ++layer) {
    products_.push_back(HeadProducts(model.layer(layer).output.weight, model.config()));
  }
}

std::vector<AttentionScores> AttentionScorer::Score(const std::vector<int64_t>& offsets,
                                                    const AttentionActivation& activation) const {
  const ModelConfig& config = model_.config();
  Rows rows{.query = OnCpu(activation.query), .heads = OnCpu(activation.heads), .means = {}};
  const at::Tensor key = OnCpu(activation.key);
  rows.means = at::empty({key.size(0), config.num_heads * MomentWidth(config.head_dim)});
  Attend(rows.query, key, Moments(key, offsets, config), offsets, config, activation.window,
         rows.means);
  const auto layer = static_cast<size_t>(activation.layer);
  std::vector<AttentionScores> scores(offsets.size() - 1);
  at::parallel_for(0, std::ssize(scores), /*grain_size=*/1, [&](int64_t first, int64_t last) {
    for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      scores[i] = ScoreDocument(rows, layer, offsets[i], offsets[i + 1]);
    }
  });
  return scores;
}

AttentionScores AttentionScorer::ScoreDocument(const Rows& rows, size_t layer, int64_t begin,
                                               int64_t end) const {
  const ModelConfig& config = model_.config();
  const int64_t head_dim = config.head_dim;
  const int64_t group = GroupSize(config);
  const AttentionSets<int64_t> units = UnitsOf({config.num_heads, config.num_kv_heads, head_dim});
  AttentionScores scores{.output = std::vector<float>(static_cast<size_t>(units.output)),
                         .value = std::vector<float>(static_cast<size_t>(units.value)),
                         .query_key = std::vector<float>(static_cast<size_t>(units.query_key))};
  const double token = 1.0 / static_cast<double>(end - begin);
  const double half_squared_scale = 0.5 * config.attention_scale * config.attention_scale;
  std::vector<double> sums(static_cast<size_t>(HeadPairs(group) * head_dim));
  std::vector<double> value(static_cast<size_t>(head_dim));
  for (int64_t kv_head = 0; kv_head < config.num_kv_heads; ++kv_head) {
    const int64_t column = kv_head * group * head_dim;
    SumHeadProducts(RowsOf(rows.heads, begin, end, column), group, head_dim, sums.data());
    const double* products = products_[layer].data() + kv_head * HeadPairs(group) * head_dim;
    std::fill(value.begin(), value.end(), 0.0);
    for (size_t i = 0; i < sums.size(); ++i) {
      sums[i] *= products[i];
      value[i % static_cast<size_t>(head_dim)] += sums[i];
    }
    // A sum of squares but for rounding.
    for (double& change : value) change = change < 0 ? 0 : change;
    Scale(value.data(), head_dim, token, scores.value.data() + kv_head * head_dim);
    int64_t pair = 0;  // of a head with itself
    for (int64_t head = 0; head < group; pair += group - head++) {
      Scale(sums.data() + pair * head_dim, head_dim, token,
            scores.output.data() + column + head * head_dim);
    }
    SumLogitVariances(RowsOf(rows.query, begin, end, column),
                      RowsOf(rows.means, begin, end, kv_head * group * MomentWidth(head_dim)),
                      group, head_dim, sums.data());
    Scale(sums.data(), head_dim / 2, token * half_squared_scale,
          scores.query_key.data() + kv_head * head_dim / 2);
  }
  return scores;
}

}  // namespace secateur
