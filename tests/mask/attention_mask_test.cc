#include "server/mask/attention_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "server/mask/kept_units.h"
#include "tests/mask/model_shapes.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr AttentionHeads kHeads = {.heads = 4, .kv_heads = 2, .head_dim = 6};  // as Tiny()
constexpr size_t kLayers = 3;

// Ranks as one document gives them: a permutation in each set.
RelevanceView OneDocument(unsigned seed, const AttentionHeads& heads = kHeads) {
  std::mt19937 random(seed);
  RelevanceView view;
  view.heads = heads;
  view.attention.resize(kLayers);
  const AttentionSets<int64_t> units = UnitsOf(heads);
  for (AttentionRanks& layer : view.attention) {
    EXPECT_OK(ForEachAttentionSet([&](std::string_view, auto set) {
      set(layer).resize(static_cast<size_t>(set(units)));
      std::iota(set(layer).begin(), set(layer).end(), uint16_t{0});
      std::shuffle(set(layer).begin(), set(layer).end(), random);
      return absl::OkStatus();
    }));
  }
  return view;
}

TEST(AttentionMask, KeepsWhatIsRelevantInAnyView) {
  const RelevanceView a = OneDocument(1), b = OneDocument(2);
  ASSERT_OK_AND_ASSIGN(const AttentionOrder order, ComposeAttention({{&a, 1}, {&b, 9}}));
  for (const double sigma : {0.0, 0.25, 0.5, 0.8}) {
    ASSERT_OK_AND_ASSIGN(const std::vector<KeptAttention> kept, SelectAttention(order, sigma));
    ASSERT_EQ(kept.size(), kLayers);
    for (size_t layer = 0; layer < kLayers; ++layer) {
      std::vector<int32_t> output, value;
      for (int32_t unit = 0; unit < 24; ++unit) {
        const auto at = static_cast<size_t>(unit);
        const int rank = std::max(a.attention[layer].output[at], b.attention[layer].output[at]);
        if (rank / 24.0 >= sigma) output.push_back(unit);
      }
      for (int32_t unit = 0; unit < 12; ++unit) {
        const auto at = static_cast<size_t>(unit);
        const int rank = std::max(a.attention[layer].value[at], b.attention[layer].value[at]);
        if (rank / 12.0 >= sigma) value.push_back(unit);
      }
      EXPECT_EQ(kept[layer].output, output) << sigma;
      EXPECT_EQ(kept[layer].value, value) << sigma;
    }
  }
}

TEST(AttentionMask, TakesBothRowsOfAPairFromAllHeadsThatShareIt) {
  AttentionOrder order{.heads = kHeads, .layers = {OneDocument(1).attention[0]}};
  // Of KV head 0 the pairs (0, 3) and (2, 5), of KV head 1 the pair (1, 4), in this order.
  order.layers[0].query_key = {0, 5, 1, 4, 2, 3};
  ASSERT_OK_AND_ASSIGN(const std::vector<KeptAttention> kept, SelectAttention(order, 0.5));
  EXPECT_THAT(kept[0].key, ElementsAre(1, 4, 6, 8, 9, 11));
  EXPECT_THAT(kept[0].query, ElementsAre(1, 4, 7, 10, 12, 14, 15, 17, 18, 20, 21, 23));
}

// More is irrelevant at a larger sigma, and what was stays so, in each matrix.
TEST(AttentionMask, IsNestedInSigma) {
  const RelevanceView a = OneDocument(4), b = OneDocument(5);
  ASSERT_OK_AND_ASSIGN(const AttentionOrder order, ComposeAttention({{&a, 1}, {&b, 1}}));
  for (const auto rows : {&KeptAttention::query, &KeptAttention::key, &KeptAttention::value,
                          &KeptAttention::output}) {
    ASSERT_OK_AND_ASSIGN(std::vector<KeptAttention> wider, SelectAttention(order, 0));
    const std::vector<KeptAttention> whole = wider;
    for (const double sigma : {0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8}) {
      ASSERT_OK_AND_ASSIGN(std::vector<KeptAttention> kept, SelectAttention(order, sigma));
      for (size_t layer = 0; layer < kLayers; ++layer) {
        const std::vector<int32_t>& outer = wider[layer].*rows;
        const std::vector<int32_t>& inner = kept[layer].*rows;
        EXPECT_TRUE(std::includes(outer.begin(), outer.end(), inner.begin(), inner.end())) << sigma;
      }
      wider = std::move(kept);
    }
    for (size_t layer = 0; layer < kLayers; ++layer) {
      EXPECT_LT((wider[layer].*rows).size(), (whole[layer].*rows).size());
    }
  }
}

TEST(AttentionMask, LeavesAUnitOfEachSetOrRefuses) {
  const RelevanceView view = OneDocument(3);
  ASSERT_OK_AND_ASSIGN(const AttentionOrder order, ComposeAttention({{&view, 1}}));
  ASSERT_OK_AND_ASSIGN(const std::vector<KeptAttention> kept, SelectAttention(order, 5.0 / 6));
  EXPECT_EQ(kept[0].key.size(), 2U);
  // Six pairs, of which none is relevant past 5/6.
  EXPECT_THAT(SelectAttention(order, 0.9),
              StatusIs(absl::StatusCode::kOutOfRange,
                       AllOf(HasSubstr("query_key"), HasSubstr("layer 0"), HasSubstr("0.833333"))));
}

TEST(AttentionMask, RefusesViewsThatDoNotGoTogether) {
  const RelevanceView good = OneDocument(1);
  const auto refused = [&](const RelevanceView& other, const char* what) {
    EXPECT_THAT(
        ComposeAttention({{&good, 1}, {&other, 1}}),
        StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("view 1"), HasSubstr(what))));
  };
  EXPECT_THAT(ComposeAttention({}), StatusIs(absl::StatusCode::kInvalidArgument));
  refused({}, "no ranks of attention");
  refused(OneDocument(1, {.heads = 2, .kv_heads = 2, .head_dim = 6}), "other heads");
  RelevanceView other = good;
  other.attention.pop_back();
  refused(other, "other heads or layers");
  other = good;
  other.attention[1].value.pop_back();
  refused(other, "layer 1, set \"value\"");
  other = good;
  other.attention[2].output[5] = 24;
  refused(other, "layer 2, set \"output\"");
}

// All rows of Tiny() but the given ones of each.
Mask MaskWithout(const KeptAttention& gone) {
  const auto rest = [](const std::vector<int32_t>& rows, int32_t all) {
    std::vector<int32_t> kept;
    for (int32_t row = 0; row < all; ++row) {
      if (std::find(rows.begin(), rows.end(), row) == rows.end()) kept.push_back(row);
    }
    return kept;
  };
  Mask mask;
  mask.kept.assign(kLayers, rest({}, 151));
  mask.attention.assign(kLayers, {rest({}, 24), rest({}, 12), rest({}, 12), rest({}, 24)});
  mask.attention[1] = {rest(gone.query, 24), rest(gone.key, 12), rest(gone.value, 12),
                       rest(gone.output, 24)};
  return mask;
}

TEST(KeptUnits, AreRowsOfQueriesKeysAndValuesAndColumnsOfTheOutput) {
  const ModelConfig config = Tiny();  // hidden 24, with biases
  EXPECT_EQ(CountRemovedAttention(config, MaskWithout({})), 0);
  EXPECT_EQ(CountRemovedAttention(config, MaskWithout({.query = {1, 4}})), 2 * 25);
  EXPECT_EQ(CountRemovedAttention(config, MaskWithout({.key = {0, 3, 9}})), 3 * 25);
  EXPECT_EQ(CountRemovedAttention(config, MaskWithout({.value = {11}})), 25);
  EXPECT_EQ(CountRemovedAttention(config, MaskWithout({.output = {0, 23}})), 2 * 24);
  Mask mask = MaskWithout({{1, 4}, {0, 3}, {11}, {0, 23}});
  EXPECT_EQ(CountRemovedAttention(config, mask), 5 * 25 + 2 * 24);
  mask.kept[1] = {3};  // neurons are another count
  EXPECT_EQ(CountRemovedAttention(config, mask), 5 * 25 + 2 * 24);
  for (const TensorInfo& info : TensorTable(config)) {
    const KeptUnits units = FindKeptUnits(info, mask);
    if (info.layer != 1) {
      EXPECT_EQ(units.axis, -1) << info.name;
    } else if (info.role == TensorRole::kOutput) {
      EXPECT_EQ(units.axis, 1);
      EXPECT_EQ(units.kept, &mask.attention[1].output);
    } else if (info.role == TensorRole::kKeyBias) {
      EXPECT_EQ(units.axis, 0);
      EXPECT_EQ(units.kept, &mask.attention[1].key);
    } else if (info.role == TensorRole::kOutputBias || info.role == TensorRole::kInputNorm) {
      EXPECT_EQ(units.axis, -1) << info.name;
    }
  }
}

TEST(AttentionMask, IsPartOfTheMasksDigest) {
  const Mask whole{{{0, 2, 5}, {1, 3, 4}}};
  Mask mask = whole;
  mask.attention.assign(2, {{0, 1}, {0, 1}, {0, 1}, {0, 1}});
  EXPECT_NE(mask.digest(), whole.digest());
  for (size_t layer = 0; layer < 2; ++layer) {
    for (const auto rows : {&KeptAttention::query, &KeptAttention::key, &KeptAttention::value,
                            &KeptAttention::output}) {
      Mask other = mask;
      (other.attention[layer].*rows)[1] = 7;
      EXPECT_NE(other.digest(), mask.digest());
      EXPECT_NE(other, mask);
    }
  }
}

}  // namespace
}  // namespace secateur
