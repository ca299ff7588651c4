#include "server/mask/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/mask/random_views.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::SizeIs;

// By definition: 1 + how many are smaller + half of how many others are equal.
double RankByCounting(const std::vector<float>& values, size_t k) {
  double rank = 1;
  for (size_t other = 0; other < values.size(); ++other) {
    if (values[other] < values[k]) rank += 1;
    if (other != k && values[other] == values[k]) rank += 0.5;
  }
  return rank;
}

// The covariance of ranks over the product of their deviations, sums taken pair by pair.
double SpearmanByDefinition(const std::vector<float>& a, const std::vector<float>& b) {
  double product = 0, square_a = 0, square_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a.size(); ++j) {
      const double x = RankByCounting(a, i) - RankByCounting(a, j);
      const double y = RankByCounting(b, i) - RankByCounting(b, j);
      product += x * y;
      square_a += x * x;
      square_b += y * y;
    }
  }
  return product / std::sqrt(square_a * square_b);
}

std::set<int32_t> KeptBySorting(const RelevanceView& view, size_t layer, size_t width) {
  const std::vector<int32_t> kept =
      KeptOf(SortedByRemoval(view.layers[layer].relevance, /*lower_channel_first=*/false), width);
  return {kept.begin(), kept.end()};
}

ViewComparison Compare(const RelevanceView& a, const RelevanceView& b, int64_t width) {
  const auto x = MakeComparable(a, width), y = MakeComparable(b, width);
  EXPECT_OK(x);
  EXPECT_OK(y);
  const auto comparison = CompareViews(*x, *y);
  EXPECT_OK(comparison);
  return *comparison;
}

TEST(CompareViews, EqualsTheDefinitionsWithAndWithoutTies) {
  std::mt19937 random(3);
  for (const size_t width : {1U, 7U, 40U, 64U}) {
    for (const bool coarse : {false, true}) {
      const auto make = coarse ? CoarseView : RandomView;
      const RelevanceView a = make(3, 64, random), b = make(3, 64, random);
      const ViewComparison found = Compare(a, b, static_cast<int64_t>(width));
      ASSERT_THAT(found.layer_jaccards, SizeIs(3));
      ASSERT_THAT(found.layer_rank_correlations, SizeIs(3));
      size_t both = 0, either = 0;
      double mean = 0;
      for (size_t layer = 0; layer < 3; ++layer) {
        std::set<int32_t> all = KeptBySorting(a, layer, width);
        for (const int32_t channel : KeptBySorting(b, layer, width)) all.insert(channel);
        const size_t shared = 2 * width - all.size();
        EXPECT_DOUBLE_EQ(found.layer_jaccards[layer],
                         static_cast<double>(shared) / static_cast<double>(all.size()));
        both += shared;
        either += all.size();
        const double spearman =
            SpearmanByDefinition(a.layers[layer].relevance, b.layers[layer].relevance);
        EXPECT_NEAR(found.layer_rank_correlations[layer], spearman, 1e-12);
        mean += spearman / 3;
      }
      EXPECT_DOUBLE_EQ(found.jaccard, static_cast<double>(both) / static_cast<double>(either));
      EXPECT_NEAR(found.rank_correlation, mean, 1e-12);
    }
  }
}

TEST(CompareViews, IsOneForAViewAndItselfAndMinusOneForTheOppositeOrder) {
  std::mt19937 random(4);
  const RelevanceView view = RandomView(2, 50, random);
  const ViewComparison same = Compare(view, view, 30);
  EXPECT_EQ(same.jaccard, 1);
  EXPECT_DOUBLE_EQ(same.rank_correlation, 1);
  RelevanceView opposite = view;
  for (RelevanceView::Layer& layer : opposite.layers) {
    for (float& value : layer.relevance) value = 1 / value;
  }
  EXPECT_NEAR(Compare(view, opposite, 30).rank_correlation, -1, 1e-12);
  EXPECT_EQ(Compare(view, opposite, 25).jaccard, 0);
  EXPECT_EQ(Compare(view, opposite, 50).jaccard, 1);
}

TEST(CompareViews, HasNoCorrelationWithALayerThatIsEquallyRelevantEverywhere) {
  std::mt19937 random(5);
  const RelevanceView view = RandomView(1, 20, random);
  const RelevanceView flat = MakeView(1, 20, random, [] { return 0.05f; });
  EXPECT_THAT(Compare(view, flat, 10).layer_rank_correlations, Each(0.0));
  EXPECT_THAT(Compare(flat, flat, 10).layer_rank_correlations, Each(0.0));
  EXPECT_EQ(Compare(flat, flat, 10).jaccard, 1);
}

TEST(CompareViews, OfStrangersIsAboutWhatChanceGives) {
  std::mt19937 random(6);
  const RelevanceView a = RandomView(4, 4000, random), b = RandomView(4, 4000, random);
  EXPECT_NEAR(JaccardByChance(2600, 4000), 0.65 / 1.35, 1e-12);
  EXPECT_EQ(JaccardByChance(10, 10), 1);
  const ViewComparison found = Compare(a, b, 2600);
  EXPECT_NEAR(found.jaccard, JaccardByChance(2600, 4000), 0.01);
  EXPECT_NEAR(found.rank_correlation, 0, 0.03);
}

TEST(CompareViews, RefusesWidthsThatCannotBeAndOtherModels) {
  std::mt19937 random(7);
  const RelevanceView view = RandomView(2, 20, random);
  for (const int64_t width : {-1, 0, 21}) {
    EXPECT_THAT(MakeComparable(view, width),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("20 neurons")));
  }
  EXPECT_THAT(MakeComparable(RelevanceView(), 1), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const ComparableView comparable, MakeComparable(view, 5));
  for (const auto& [layers, width] : {std::pair<size_t, size_t>(1, 20), {2, 19}}) {
    ASSERT_OK_AND_ASSIGN(const ComparableView other,
                         MakeComparable(RandomView(layers, width, random), 5));
    EXPECT_THAT(CompareViews(comparable, other), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

}  // namespace
}  // namespace secateur
