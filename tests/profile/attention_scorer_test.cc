#include "server/profile/attention_scorer.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numeric>

#include "tests/profile/slow_attention.h"
#include "tests/profile/tiny_documents.h"

namespace secateur {
namespace {

// KL(map || other), of all tokens.
at::Tensor Divergence(const at::Tensor& map, const at::Tensor& other) {
  const at::Tensor seen = map > 0;
  return at::where(seen, map * (map / at::where(seen, other, 1.0)).log(), 0.0).sum();
}

void ExpectNear(const std::vector<float>& found, const std::vector<double>& expected,
                double relative) {
  ASSERT_EQ(found.size(), expected.size());
  const double largest = *std::max_element(expected.begin(), expected.end());
  for (size_t unit = 0; unit < found.size(); ++unit) {
    ASSERT_NEAR(found[unit], expected[unit], relative * expected[unit] + 1e-9 * largest)
        << "unit " << unit;
  }
}

std::vector<double> RanksOf(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t i = 0; i < order.size(); ++i) ranks[order[i]] = static_cast<double>(i);
  return ranks;
}

double Spearman(const std::vector<double>& a, const std::vector<double>& b) {
  const std::vector<double> x = RanksOf(a), y = RanksOf(b);
  const auto n = static_cast<double>(x.size());
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) squares += (x[i] - y[i]) * (x[i] - y[i]);
  return 1 - 6 * squares / (n * (n * n - 1));
}

std::vector<double> Widen(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

class AttentionScoring : public testing::TestWithParam<std::string> {
 protected:
  // Longer than the windows of the tiny models, and one of a single token.
  const std::unique_ptr<Transformer> model_ = LoadTiny(GetParam());
  const ModelConfig& config_ = model_->config();
  const PackedBatch block_ = Pack(RandomDocuments({33, 1, 70}, 4));
  const std::vector<AttentionActivation> shown_ = Record(*model_, block_);
  const AttentionScorer scorer_{*model_};
  const c10::InferenceMode inference_;
};

TEST_P(AttentionScoring, OfOutputsAreTheChangeOfTheSublayerWithoutTheColumn) {
  for (const AttentionActivation& shown : shown_) {
    const auto found = scorer_.Score(block_.offsets, shown);
    const Scores expected = SlowOutputScores(*model_, block_, shown.layer);
    for (size_t i = 0; i < found.size(); ++i) ExpectNear(found[i].output, expected[i], 1e-3);
  }
}

TEST_P(AttentionScoring, OfValuesAreTheChangeOfTheSublayerWithoutTheRow) {
  for (const AttentionActivation& shown : shown_) {
    const auto found = scorer_.Score(block_.offsets, shown);
    const Scores expected = SlowValueScores(*model_, block_, shown.layer);
    for (size_t i = 0; i < found.size(); ++i) ExpectNear(found[i].value, expected[i], 1e-3);
  }
}

TEST_P(AttentionScoring, OfPairsAreTheVarianceOfTheirLogitsUnderTheWholeMap) {
  for (const AttentionActivation& shown : shown_) {
    const auto found = scorer_.Score(block_.offsets, shown);
    const Scores expected = SlowPairScores(shown, config_, block_.offsets);
    for (const size_t i : {size_t{0}, size_t{2}}) {
      ExpectNear(found[i].query_key, expected[i], 1e-3);
    }
    // A token that sees itself alone loses nothing.
    EXPECT_THAT(found[1].query_key, testing::Each(0.0F));
  }
}

TEST_P(AttentionScoring, OfPairsRankAsTheExactDivergenceOfTheMapsDoes) {
  for (const AttentionActivation& shown : shown_) {
    const auto found = scorer_.Score(block_.offsets, shown);
    for (const size_t i : {size_t{0}, size_t{2}}) {
      const std::vector<double> exact = OfPairs(
          shown, config_, block_.offsets[i], block_.offsets[i + 1],
          [&shown](const at::Tensor& map, const at::Tensor& logits, const at::Tensor& delta) {
            return Divergence(map, MapOf(logits - delta, shown.window));
          });
      EXPECT_GT(Spearman(Widen(found[i].query_key), exact), 0.95) << "layer " << shown.layer;
    }
  }
}

// Rows of a pair: those of its KV head in k_proj, and of every query head that reads it in q_proj.
std::vector<int64_t> RowsOfPair(int64_t first_head, int64_t heads, int64_t head_dim, int64_t pair) {
  std::vector<int64_t> rows;
  for (int64_t head = first_head; head < first_head + heads; ++head) {
    rows.insert(rows.end(), {head * head_dim + pair, head * head_dim + pair + head_dim / 2});
  }
  return rows;
}

// What makes the pair the unit: its rows go, and nothing else of queries and keys changes; only
// where they are normed the rest of their head is scaled, which hardly changes the order.
TEST_P(AttentionScoring, OfPairsAreThoseOfTheRowsThatAreZeroed) {
  const int64_t group = config_.num_heads / config_.num_kv_heads;
  const int64_t half = config_.head_dim / 2;
  const int64_t layer = config_.num_layers - 1;
  const OneLayer one(*model_, block_, layer);
  const AttentionActivation& shown = shown_.back();
  const int64_t begin = block_.offsets[2], end = block_.offsets[3];
  std::vector<double> exact;
  for (int64_t kv_head = 0; kv_head < config_.num_kv_heads; ++kv_head) {
    for (int64_t pair = 0; pair < half; ++pair) {
      LayerWeights weights = one.weights();
      weights.query =
          WithoutRows(weights.query, RowsOfPair(kv_head * group, group, config_.head_dim, pair));
      weights.key = WithoutRows(weights.key, RowsOfPair(kv_head, 1, config_.head_dim, pair));
      const AttentionActivation without = one.Run(weights);
      double sum = 0;
      for (int64_t h = 0; h < config_.num_heads; ++h) {
        const Head head = HeadOf(shown, config_, h, begin, end);
        const Head left = HeadOf(without, config_, h, begin, end);
        const at::Tensor logits = head.query.mm(head.key.t()) * config_.attention_scale;
        const at::Tensor remaining = left.query.mm(left.key.t()) * config_.attention_scale;
        const at::Tensor delta =
            h / group == kv_head ? PairLogits(head, config_, pair) : at::zeros_like(logits);
        if (!config_.qk_norm) {
          ASSERT_LT((logits - delta - remaining).abs().max().item<double>(), 1e-4) << h;
        }
        sum +=
            Divergence(MapOf(logits, shown.window), MapOf(remaining, shown.window)).item<double>();
      }
      exact.push_back(sum);
    }
  }
  const auto found = scorer_.Score(block_.offsets, shown);
  EXPECT_GT(Spearman(Widen(found[2].query_key), exact), 0.95);
}

TEST_P(AttentionScoring, AreTheSameInEveryBlock) {
  const auto found = scorer_.Score(block_.offsets, shown_[1]);
  const AttentionActivation& all = shown_[1];
  for (size_t i = 0; i < found.size(); ++i) {
    const int64_t begin = block_.offsets[i], tokens = block_.offsets[i + 1] - begin;
    AttentionActivation alone = all;
    alone.query = all.query.narrow(0, begin, tokens).clone();
    alone.key = all.key.narrow(0, begin, tokens).clone();
    alone.heads = all.heads.narrow(0, begin, tokens).clone();
    EXPECT_EQ(scorer_.Score({0, tokens}, alone)[0], found[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(EachModel, AttentionScoring, testing::ValuesIn(TinyModelNames()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace secateur
