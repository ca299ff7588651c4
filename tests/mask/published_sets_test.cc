// Cus-Prun as published, whole: the sets that profiles give against the paper's definition computed
// slowly. A unit is in a layer's set when it is among the ceil(sigma n) least relevant of its kind
// in every document of every dimension; what it is worth is the change when it is zeroed,
// for pairs of queries and keys to second order (slow_attention.h).
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

#include "server/mask/attention_mask.h"
#include "server/profile/collector.h"
#include "tests/profile/slow_attention.h"
#include "tests/profile/tiny_documents.h"

namespace secateur {
namespace {

using Set = std::set<int64_t>;

// The least relevant share, by (score, unit); nothing where rounding decides who is last.
std::optional<Set> Bottom(const std::vector<double>& scores, double sigma) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  Set bottom;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    if (static_cast<double>(rank) / static_cast<double>(order.size()) < sigma) {
      bottom.insert(static_cast<int64_t>(order[rank]));
    }
  }
  if (!bottom.empty() && bottom.size() < order.size()) {
    const double last = scores[order[bottom.size() - 1]], next = scores[order[bottom.size()]];
    if (next - last < 1e-3 * next) return std::nullopt;
  }
  return bottom;
}

std::optional<Set> StrictSet(const Scores& documents, double sigma) {
  std::optional<Set> strict;
  for (const std::vector<double>& scores : documents) {
    const std::optional<Set> bottom = Bottom(scores, sigma);
    if (!bottom) return std::nullopt;
    if (!strict) strict = bottom;
    std::erase_if(*strict, [&](int64_t unit) { return !bottom->contains(unit); });
  }
  return strict;
}

// Rows (or columns) that do not stay.
Set Gone(const std::vector<int32_t>& kept, int64_t rows) {
  Set gone;
  for (int64_t row = 0; row < rows; ++row) gone.insert(row);
  for (const int32_t row : kept) gone.erase(row);
  return gone;
}

// Rows p and p + e/2 of each of the heads that have to do with a KV head's pair.
Set RowsOf(const Set& pairs, int64_t heads, const ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  const int64_t group = heads / config.num_kv_heads;
  Set rows;
  for (const int64_t pair : pairs) {
    for (int64_t head = pair / half * group; head < (pair / half + 1) * group; ++head) {
      rows.insert(head * config.head_dim + pair % half);
      rows.insert(head * config.head_dim + pair % half + half);
    }
  }
  return rows;
}

RelevanceView Profiled(const Transformer& model, const PackedBatch& block) {
  const auto collector = ProfileCollector::Create(model, {.attention = true}).value();
  RunContext context;
  EXPECT_OK(collector->Add(block, context));
  return ViewOf(collector->profile());
}

class PublishedSets : public testing::TestWithParam<std::string> {
 protected:
  // Scores of all documents of both dimensions.
  template <class Slow>
  Scores OfBoth(const Slow& slow) const {
    Scores all = slow(first_);
    for (std::vector<double>& scores : slow(second_)) all.push_back(std::move(scores));
    return all;
  }
  Scores Pairs(const PackedBatch& block, int64_t layer) const {
    const auto shown = Record(*model_, block);
    return SlowPairScores(shown[static_cast<size_t>(layer)], config_, block.offsets);
  }

  const std::unique_ptr<Transformer> model_ = LoadTiny(GetParam());
  const ModelConfig& config_ = model_->config();
  const PackedBatch first_ = Pack(RandomDocuments({40, 17}, 5));
  const PackedBatch second_ = Pack(RandomDocuments({23}, 6));
};

TEST_P(PublishedSets, AreThoseOfTheDefinition) {
  const c10::InferenceMode inference;
  const RelevanceView a = Profiled(*model_, first_), b = Profiled(*model_, second_);
  ASSERT_OK_AND_ASSIGN(const AttentionOrder order, ComposeAttention({{&a, 1}, {&b, 3}}));
  const int64_t query = config_.num_heads * config_.head_dim;
  const int64_t kv = config_.num_kv_heads * config_.head_dim;
  int compared = 0, removed = 0;
  const auto expect_set = [&](const char* what, const std::vector<int32_t>& kept, int64_t rows,
                              const std::optional<Set>& expected) {
    if (!expected) return;
    EXPECT_EQ(Gone(kept, rows), *expected) << what;
    ++compared;
    removed += static_cast<int>(expected->size());
  };
  constexpr double kSigmas[] = {0.0, 0.2, 0.4, 0.5, 0.6, 0.75, 0.85};
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    const Scores output =
        OfBoth([&](const PackedBatch& block) { return SlowOutputScores(*model_, block, layer); });
    const Scores value =
        OfBoth([&](const PackedBatch& block) { return SlowValueScores(*model_, block, layer); });
    const Scores pairs = OfBoth([&](const PackedBatch& block) { return Pairs(block, layer); });
    for (const double sigma : kSigmas) {
      SCOPED_TRACE(testing::Message() << "layer " << layer << " sigma " << sigma);
      ASSERT_OK_AND_ASSIGN(const std::vector<KeptAttention> all, SelectAttention(order, sigma));
      const KeptAttention& kept = all[static_cast<size_t>(layer)];
      expect_set("output", kept.output, query, StrictSet(output, sigma));
      expect_set("value", kept.value, kv, StrictSet(value, sigma));
      const std::optional<Set> gone = StrictSet(pairs, sigma);
      if (!gone) continue;
      expect_set("query", kept.query, query, RowsOf(*gone, config_.num_heads, config_));
      expect_set("key", kept.key, kv, RowsOf(*gone, config_.num_kv_heads, config_));
    }
  }
  const auto asked = static_cast<int>(config_.num_layers * std::ssize(kSigmas) * 4);
  EXPECT_GT(compared, asked / 2);  // most are decided by more than rounding
  EXPECT_GT(removed, 0);
}

INSTANTIATE_TEST_SUITE_P(EachModel, PublishedSets, testing::ValuesIn(TinyModelNames()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace secateur
