// Cus-Prun as published, whole: the sets that profiles give against the paper's definition computed
// slowly. A unit is in a layer's set when it is among the ceil(sigma n) least relevant of its kind
// in every document of every dimension; what it is worth is the change when it is zeroed,
// for pairs of queries and keys to second order (slow_attention.h).
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "server/mask/attention_mask.h"
#include "server/profile/collector.h"
#include "tests/mask/pair_rows.h"
#include "tests/profile/slow_ffn.h"
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

// Of one layer, by kind of unit: [document][unit].
struct LayerScores {
  Scores neurons, output, value, pairs;
};

// A dimension: what is computed fast of its text, and the same slowly.
struct Dimension {
  RelevanceView view;
  std::vector<LayerScores> layers;
};

Dimension Measured(const Transformer& model, const PackedBatch& block) {
  const auto collector = ProfileCollector::Create(model, {.attention = true}).value();
  RunContext context;
  EXPECT_OK(collector->Add(block, context));
  Dimension dimension{.view = ViewOf(collector->profile()), .layers = {}};
  const std::vector<AttentionActivation> shown = Record(model, block);
  for (int64_t layer = 0; layer < model.config().num_layers; ++layer) {
    dimension.layers.push_back({.neurons = SlowNeuronScores(model, block, layer),
                                .output = SlowOutputScores(model, block, layer),
                                .value = SlowValueScores(model, block, layer),
                                .pairs = SlowPairScores(shown[static_cast<size_t>(layer)],
                                                        model.config(), block.offsets)});
  }
  return dimension;
}

// How much was compared of one kind of unit.
struct Share {
  int asked = 0, compared = 0, removed = 0;
};

// The parameter is a tiny model.
class PublishedSets : public testing::TestWithParam<std::string> {
 protected:
  static constexpr int64_t kDimensions = 3;

  // Scores of one kind in all documents of the first `dimensions`.
  Scores Documents(int64_t dimensions, int64_t layer, Scores LayerScores::* kind) const {
    Scores all;
    for (int64_t i = 0; i < dimensions; ++i) {
      const LayerScores& scores =
          dimensions_[static_cast<size_t>(i)].layers[static_cast<size_t>(layer)];
      all.insert(all.end(), (scores.*kind).begin(), (scores.*kind).end());
    }
    return all;
  }

  // The neurons' layer of `kept` and its attention against the slow sets.
  void ExpectLayer(int64_t dimensions, int64_t layer, double sigma,
                   const std::vector<int32_t>& neurons, const KeptAttention& kept) {
    const auto strict = [&](Scores LayerScores::* kind) {
      return StrictSet(Documents(dimensions, layer, kind), sigma);
    };
    const int64_t query = config_.num_heads * config_.head_dim;
    const int64_t kv = config_.num_kv_heads * config_.head_dim;
    ExpectSet("neurons", neurons, config_.intermediate_size, strict(&LayerScores::neurons));
    ExpectSet("output", kept.output, query, strict(&LayerScores::output));
    ExpectSet("value", kept.value, kv, strict(&LayerScores::value));
    const std::optional<Set> pairs = strict(&LayerScores::pairs);
    const auto rows = [&](int64_t heads) {
      return pairs ? std::optional(RowsOfPairs(*pairs, heads, config_)) : std::nullopt;
    };
    ExpectSet("query", kept.query, query, rows(config_.num_heads));
    ExpectSet("key", kept.key, kv, rows(config_.num_kv_heads));
  }

  void ExpectSet(const std::string& kind, const std::vector<int32_t>& kept, int64_t rows,
                 const std::optional<Set>& expected) {
    Share& share = shares_[kind];
    ++share.asked;
    if (!expected) return;
    EXPECT_EQ(Gone(kept, rows), *expected) << kind;
    ++share.compared;
    share.removed += static_cast<int>(expected->size());
  }

  const std::unique_ptr<Transformer> model_ = LoadTiny(GetParam());
  const ModelConfig& config_ = model_->config();
  std::vector<Dimension> dimensions_;
  std::map<std::string, Share> shares_;
};

TEST_P(PublishedSets, AreThoseOfTheDefinition) {
  const c10::InferenceMode inference;
  for (const auto& lengths : {std::vector<int64_t>{40, 17}, {23}, {31, 12}}) {
    const auto seed = static_cast<uint64_t>(5 + std::ssize(dimensions_));
    dimensions_.push_back(Measured(*model_, Pack(RandomDocuments(lengths, seed))));
  }
  std::vector<WeightedView> views;
  for (const Dimension& dimension : dimensions_) {
    // Weights make no difference: the second view's is three times the first's, and so on.
    views.push_back({&dimension.view, static_cast<double>(1 + 2 * views.size())});
    shares_.clear();
    const int64_t count = std::ssize(views);
    ASSERT_OK_AND_ASSIGN(const RemovalOrder neurons, Compose(Rule::kCusPrun, views));
    ASSERT_OK_AND_ASSIGN(const AttentionOrder order, ComposeAttention(views));
    for (const double sigma : {0.2, 0.4, 0.5, 0.6, 0.75, 0.85}) {
      const Mask mask = SelectRelevant(neurons, sigma);
      ASSERT_OK_AND_ASSIGN(const std::vector<KeptAttention> attention,
                           SelectAttention(order, sigma));
      for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
        SCOPED_TRACE(testing::Message()
                     << count << " views, layer " << layer << ", sigma " << sigma);
        const auto at = static_cast<size_t>(layer);
        ExpectLayer(count, layer, sigma, mask.kept[at], attention[at]);
      }
    }
    EXPECT_EQ(shares_.size(), 5U);
    for (const auto& [kind, share] : shares_) {
      // Most are decided by more than rounding.
      EXPECT_GT(share.compared, share.asked / 2) << kind << " of " << count << " views";
      EXPECT_GT(share.removed, 0) << kind << " of " << count << " views";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EachModel, PublishedSets, testing::ValuesIn(TinyModelNames()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace secateur
