#include "server/mask/compose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "tests/mask/random_views.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Around the block of 256 channels that the composer works in, and past 16 bits of keys.
const size_t kWidths[] = {1, 2, 7, 255, 256, 257, 1000, 1536};

std::vector<double> MeansByDefinition(const std::vector<WeightedView>& views, size_t layer) {
  double sum = 0;
  for (const WeightedView& weighted : views) sum += weighted.weight;
  std::vector<double> means(views[0].view->layers[layer].relevance.size());
  for (const WeightedView& weighted : views) {
    for (size_t k = 0; k < means.size(); ++k) {
      means[k] += weighted.weight / sum * weighted.view->layers[layer].relevance[k];
    }
  }
  return means;
}

Mask MaskOf(Rule rule, const std::vector<WeightedView>& views, int64_t width, int threads = 2) {
  auto order = Compose(rule, views, threads);
  EXPECT_OK(order);
  return SelectUniform(*order, width, threads);
}

TEST(Compose, KeepsTheMostRelevantNeuronsOfEachLayerAndOfTiesTheLowerChannels) {
  std::mt19937 random(1);
  for (const size_t width : kWidths) {
    const RelevanceView a = CoarseView(3, width, random);
    const RelevanceView b = CoarseView(3, width, random);
    const RelevanceView c = CoarseView(3, width, random);
    const std::vector<WeightedView> views = {{&a, 1.0}, {&b, 2.0}, {&c, 1.0}};  // exact
    for (size_t kept = 1; kept <= width; kept += 1 + width / 17) {
      const Mask mask = MaskOf(Rule::kRelativeMean, views, static_cast<int64_t>(kept));
      ASSERT_EQ(mask.kept.size(), 3u);
      for (size_t layer = 0; layer < 3; ++layer) {
        const auto order = SortedByRemoval(MeansByDefinition(views, layer), false);
        EXPECT_EQ(mask.kept[layer], KeptOf(order, kept)) << width << " " << kept;
      }
    }
  }
}

TEST(Compose, NothingRemovedIsMoreRelevantThanAnythingKept) {
  std::mt19937 random(2);
  std::uniform_real_distribution<double> weights(0.01, 3.0);
  for (const size_t width : kWidths) {
    std::vector<RelevanceView> content;
    for (int i = 0; i < 5; ++i) content.push_back(RandomView(2, width, random));
    std::vector<WeightedView> views;
    for (const RelevanceView& view : content) views.push_back({&view, weights(random)});
    const size_t kept = (width + 1) / 2;
    const Mask mask = MaskOf(Rule::kRelativeMean, views, static_cast<int64_t>(kept));
    for (size_t layer = 0; layer < 2; ++layer) {
      const std::vector<double> means = MeansByDefinition(views, layer);
      double least_kept = std::numeric_limits<double>::infinity();
      double most_removed = 0;
      for (size_t k = 0; k < width; ++k) {
        const auto& channels = mask.kept[layer];
        if (std::binary_search(channels.begin(), channels.end(), static_cast<int32_t>(k))) {
          least_kept = std::min(least_kept, means[k]);
        } else {
          most_removed = std::max(most_removed, means[k]);
        }
      }
      ASSERT_EQ(mask.kept[layer].size(), kept);
      EXPECT_GE(least_kept, most_removed * (1 - 1e-7)) << width;  // rounded to float
    }
  }
}

TEST(Compose, RemovesProtectedNeuronsAfterAllOthersAndByRelevanceAmongThem) {
  std::mt19937 random(12);
  RelevanceView a = CoarseView(2, 300, random), b = CoarseView(2, 300, random);
  a.layers[0].protected_channels = {7, 299};
  b.layers[0].protected_channels = {0, 7, 256};
  const std::vector<uint16_t> both = {0, 7, 256, 299};
  const std::vector<WeightedView> views = {{&a, 1.0}, {&b, 1.0}};
  ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kRelativeMean, views));
  EXPECT_EQ(order.protected_channels[0], both);
  EXPECT_THAT(order.protected_channels[1], testing::IsEmpty());
  std::vector<double> means = MeansByDefinition(views, 0);
  for (const uint16_t channel : both) means[channel] += 1000;
  const auto removal = SortedByRemoval(means, false);
  for (size_t kept = 1; kept < 300; kept += kept < 8 ? 1 : 37) {
    const Mask mask = SelectUniform(order, static_cast<int64_t>(kept));
    EXPECT_EQ(mask.kept[0], KeptOf(removal, kept)) << kept;
    EXPECT_EQ(mask.kept[1], KeptOf(SortedByRemoval(MeansByDefinition(views, 1), false), kept));
  }
  const RelevanceView plain_a = [&] {
    RelevanceView view = a;
    view.layers[0].protected_channels.clear();
    return view;
  }();
  RelevanceView plain_b = b;
  plain_b.layers[0].protected_channels.clear();
  ASSERT_OK_AND_ASSIGN(const RemovalOrder strict, Compose(Rule::kCusPrun, views));
  ASSERT_OK_AND_ASSIGN(const RemovalOrder plain,
                       Compose(Rule::kCusPrun, {{&plain_a, 1.0}, {&plain_b, 1.0}}));
  EXPECT_EQ(strict.layers, plain.layers);
  EXPECT_THAT(strict.protected_channels, testing::Each(testing::IsEmpty()));
  b.layers[1].protected_channels = {300};
  EXPECT_THAT(Compose(Rule::kRelativeMean, views),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("view 1, layer 1"), HasSubstr("300 neurons"))));
}

TEST(Compose, WhatALargerWidthRemovesASmallerOneRemovesToo) {
  std::mt19937 random(3);
  const RelevanceView a = CoarseView(2, 300, random);
  const RelevanceView b = RandomView(2, 300, random);
  for (const Rule rule : {Rule::kRelativeMean, Rule::kCusPrun}) {
    Mask smaller = MaskOf(rule, {{&a, 1}, {&b, 1}}, 1);
    for (int64_t width = 2; width <= 300; ++width) {
      Mask larger = MaskOf(rule, {{&a, 1}, {&b, 1}}, width);
      for (size_t layer = 0; layer < 2; ++layer) {
        const auto& some = smaller.kept[layer];
        const auto& more = larger.kept[layer];
        ASSERT_EQ(more.size(), static_cast<size_t>(width));
        ASSERT_TRUE(std::includes(more.begin(), more.end(), some.begin(), some.end()));
      }
      smaller = std::move(larger);
    }
  }
}

TEST(Compose, TheOrderOfTheViewsMakesNoDifference) {
  std::mt19937 random(4);
  std::vector<RelevanceView> content;
  for (int i = 0; i < 4; ++i) content.push_back(RandomView(3, 500, random));
  content.push_back(content[0]);  // an equal view of another weight
  std::vector<size_t> permutation = {0, 1, 2, 3, 4};
  const auto compose = [&](Rule rule) {
    std::vector<WeightedView> views;
    for (const size_t i : permutation)
      views.push_back({&content[i], i < 2 ? 1.0 : 0.1 * double(i)});
    auto order = Compose(rule, views);
    EXPECT_OK(order);
    return order->layers;
  };
  const auto mean = compose(Rule::kRelativeMean);
  const auto strict = compose(Rule::kCusPrun);
  while (std::next_permutation(permutation.begin(), permutation.end())) {
    ASSERT_EQ(compose(Rule::kRelativeMean), mean);
    ASSERT_EQ(compose(Rule::kCusPrun), strict);
  }
}

TEST(Compose, TheNumberOfThreadsMakesNoDifference) {
  std::mt19937 random(5);
  const RelevanceView a = RandomView(9, 700, random);
  const RelevanceView b = RandomView(9, 700, random);
  for (const Rule rule : {Rule::kRelativeMean, Rule::kCusPrun}) {
    const Mask one = MaskOf(rule, {{&a, 1}, {&b, 3}}, 333, 1);
    for (const int threads : {-1, 0, 2, 3, 8, 1000}) {
      EXPECT_EQ(MaskOf(rule, {{&a, 1}, {&b, 3}}, 333, threads), one) << threads;
    }
  }
}

TEST(Compose, WeightsAreRelativeAndDecide) {
  std::mt19937 random(6);
  const RelevanceView a = RandomView(1, 64, random);
  const RelevanceView b = RandomView(1, 64, random);
  const auto mask = [&](double weight_a, double weight_b) {
    return MaskOf(Rule::kRelativeMean, {{&a, weight_a}, {&b, weight_b}}, 32);
  };
  EXPECT_EQ(mask(1, 3), mask(0.25, 0.75));
  EXPECT_EQ(mask(1, 3), mask(1024, 3072));
  EXPECT_EQ(mask(1e12, 1e-12), MaskOf(Rule::kRelativeMean, {{&a, 1}}, 32));
  EXPECT_EQ(mask(1e-12, 1e12), MaskOf(Rule::kRelativeMean, {{&b, 1}}, 32));
  EXPECT_NE(mask(1e12, 1e-12), mask(1e-12, 1e12));
  EXPECT_EQ(mask(1e307, 1e307), mask(1, 1));
}

TEST(Compose, SelectsFromAnyDistributionOfScores) {
  const size_t width = 3000;
  std::mt19937 random(7);
  int step = 0;
  const std::vector<std::pair<const char*, std::function<float()>>> distributions = {
      {"all zero", [] { return 0.0f; }},
      {"all equal", [] { return 0.1f; }},
      {"ascending", [&] { return static_cast<float>(++step); }},
      {"descending", [&] { return 1.0f / static_cast<float>(++step); }},
      {"one bit apart", [&] { return std::nextafter(1.0f, random() % 2 ? 2.0f : 1.0f); }},
      {"mostly zero", [&] { return random() % 50 == 0 ? 1.0f : 0.0f; }},
      {"denormal", [&] { return FLT_TRUE_MIN * static_cast<float>(random() % 100); }},
      {"largest", [&] { return random() % 2 ? FLT_MAX : FLT_MIN; }},
  };
  for (const auto& [name, distribution] : distributions) {
    const RelevanceView view = MakeView(1, width, random, distribution);
    const auto order = SortedByRemoval(view.layers[0].relevance, false);
    for (const size_t kept : {1, 2, 1499, 1500, 2999, 3000}) {
      EXPECT_EQ(MaskOf(Rule::kRelativeMean, {{&view, 1}}, static_cast<int64_t>(kept)).kept[0],
                KeptOf(order, kept))
          << name << " " << kept;
    }
  }
}

TEST(Compose, WorksForTheWidestLayerThatRanksAllow) {
  std::mt19937 random(8);
  const RelevanceView view = RandomView(1, 65'536, random);
  const auto by_rank = SortedByRemoval(view.layers[0].max_rank, true);
  EXPECT_EQ(MaskOf(Rule::kCusPrun, {{&view, 1}}, 12'345).kept[0], KeptOf(by_rank, 12'345));
  const auto by_relevance = SortedByRemoval(view.layers[0].relevance, false);
  EXPECT_EQ(MaskOf(Rule::kRelativeMean, {{&view, 1}}, 50'000).kept[0],
            KeptOf(by_relevance, 50'000));
}

class ComposeErrors : public testing::Test {
 protected:
  static auto Refused(const testing::Matcher<std::string>& message) {
    return StatusIs(absl::StatusCode::kInvalidArgument, message);
  }
  std::mt19937 random_{9};
  RelevanceView view_ = RandomView(2, 300, random_);
  RelevanceView other_ = RandomView(2, 300, random_);
};

TEST_F(ComposeErrors, NoViewsOrANullOne) {
  EXPECT_THAT(Compose(Rule::kRelativeMean, {}), Refused(HasSubstr("at least one view")));
  EXPECT_THAT(Compose(Rule::kRelativeMean, {{&view_, 1}, {nullptr, 1}}),
              Refused(HasSubstr("null")));
}

TEST_F(ComposeErrors, ViewsWithoutLayersOrNeurons) {
  const RelevanceView none;
  EXPECT_THAT(Compose(Rule::kRelativeMean, {{&none, 1}}), Refused(HasSubstr("0 layers")));
  RelevanceView hollow;
  hollow.layers.resize(3);
  EXPECT_THAT(Compose(Rule::kCusPrun, {{&hollow, 1}}), Refused(HasSubstr("0 neurons")));
  const RelevanceView wide = MakeView(1, 65'537, random_, [] { return 1.0f; });
  EXPECT_THAT(Compose(Rule::kRelativeMean, {{&wide, 1}}), Refused(HasSubstr("65537")));
}

TEST_F(ComposeErrors, UnequalShapesNameTheViewAndLayer) {
  other_.layers.resize(1);
  EXPECT_THAT(Compose(Rule::kRelativeMean, {{&view_, 1}, {&other_, 1}}),
              Refused(HasSubstr("view 1 has 1 layers, view 0 has 2")));
  other_ = view_;
  other_.layers[1].relevance.pop_back();
  EXPECT_THAT(Compose(Rule::kCusPrun, {{&view_, 1}, {&other_, 1}}),
              Refused(AllOf(HasSubstr("view 1, layer 1"), HasSubstr("299"))));
  other_ = view_;
  other_.layers[0].max_rank.push_back(0);
  EXPECT_THAT(Compose(Rule::kRelativeMean, {{&view_, 1}, {&other_, 1}}),
              Refused(AllOf(HasSubstr("view 1, layer 0"), HasSubstr("301 ranks"))));
}

TEST_F(ComposeErrors, WeightsThatAreNotPositiveAndFinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double weight : {0.0, -1.0, -infinity, infinity, std::nan("")}) {
    for (const Rule rule : {Rule::kRelativeMean, Rule::kCusPrun}) {
      EXPECT_THAT(Compose(rule, {{&view_, 1}, {&other_, weight}}),
                  Refused(HasSubstr("weight of view 1")))
          << weight;
    }
  }
  EXPECT_THAT(Compose(Rule::kRelativeMean, {{&view_, DBL_MAX}, {&other_, DBL_MAX}}),
              Refused(HasSubstr("sum of the weights")));
}

TEST_F(ComposeErrors, ScoresThatAreNegativeOrNotFiniteWhereverTheyAre) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {-1e-30f, -1.0f, -infinity, infinity, std::nanf(""), -std::nanf("")}) {
    for (const size_t channel : {0u, 17u, 255u, 256u, 299u}) {
      RelevanceView broken = other_;
      broken.layers[1].relevance[channel] = bad;
      EXPECT_THAT(Compose(Rule::kRelativeMean, {{&view_, 1}, {&broken, 1}}),
                  Refused(HasSubstr("view 1, layer 1, channel " + std::to_string(channel) + ":")))
          << bad;
      EXPECT_OK(Compose(Rule::kCusPrun, {{&view_, 1}, {&broken, 1}}));  // does not read them
    }
  }
}

TEST_F(ComposeErrors, RanksThatNoNeuronCanHave) {
  other_.layers[0].max_rank[299] = 300;
  EXPECT_THAT(
      Compose(Rule::kCusPrun, {{&view_, 1}, {&other_, 1}}),
      Refused(HasSubstr("view 1, layer 0, channel 299: the rank is 300 among 300 neurons")));
  EXPECT_OK(Compose(Rule::kRelativeMean, {{&view_, 1}, {&other_, 1}}));
}

}  // namespace
}  // namespace secateur
