// The published rule, against its definition on lists of documents: a neuron is irrelevant at sigma
// when it is among the ceil(sigma m) least relevant of its layer in every document.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "server/mask/compose.h"
#include "tests/mask/random_views.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

constexpr size_t kLayers = 3;
constexpr size_t kNeurons = 37;

// [layer][neuron]: the paper's score in one document.
using Scores = std::vector<std::vector<float>>;

Scores RandomScores(std::mt19937& random) {
  std::uniform_int_distribution<int> score(0, 40);  // ties
  Scores scores(kLayers, std::vector<float>(kNeurons));
  for (size_t layer = 0; layer < kLayers; ++layer) {
    for (size_t k = 0; k < kNeurons; ++k) {
      // Low channels are low in most documents, so that intersections are not empty.
      scores[layer][k] = static_cast<float>(score(random)) + static_cast<float>(k * (layer + 1));
    }
  }
  return scores;
}

std::vector<Scores> RandomDocuments(int count, std::mt19937& random) {
  std::vector<Scores> documents;
  for (int i = 0; i < count; ++i) documents.push_back(RandomScores(random));
  return documents;
}

std::set<int32_t> StrictSet(const std::vector<Scores>& documents, size_t layer, double sigma) {
  std::set<int32_t> strict;
  for (size_t d = 0; d < documents.size(); ++d) {
    const std::vector<int32_t> order = SortedByRemoval(documents[d][layer], true);
    // Exactly those whose strict rank r / m is below sigma.
    std::set<int32_t> bottom;
    for (size_t r = 0; r < kNeurons; ++r) {
      if (static_cast<double>(r) / static_cast<double>(kNeurons) < sigma) bottom.insert(order[r]);
    }
    if (d == 0) strict = bottom;
    std::erase_if(strict, [&](int32_t k) { return !bottom.contains(k); });
  }
  return strict;
}

Profile ProfileOf(const std::vector<Scores>& documents) {
  Profile profile = Profile::Empty(kLayers, kNeurons, /*kv_head_groups=*/1).value();
  for (const Scores& scores : documents) {
    for (size_t layer = 0; layer < kLayers; ++layer) {
      DocumentScores statistics;
      statistics.relative.assign(kNeurons, 1.0f);
      statistics.activation.assign(kNeurons, 0.0f);
      statistics.peak.assign(kNeurons, 0.0f);
      statistics.paper = scores[layer];
      EXPECT_OK(AddDocument(statistics, profile.documents, profile.layers[layer]));
    }
    ++profile.documents;
    profile.tokens += 10;
  }
  return profile;
}

std::vector<double> Sigmas() {
  std::vector<double> sigmas = {0.0, 1e-9, 0.1, 0.25, 1.0 / 3, 0.5, 0.75, 0.999, 1.0};
  for (size_t r = 0; r <= kNeurons; ++r) {  // on the grid and next to it
    const double at = static_cast<double>(r) / kNeurons;
    sigmas.insert(sigmas.end(),
                  {at, std::nextafter(at, 0.0), std::min(1.0, std::nextafter(at, 2.0))});
  }
  return sigmas;
}

std::set<int32_t> RemovedAt(const RemovalOrder& order, size_t layer, int64_t count) {
  std::set<int32_t> removed;
  for (int32_t k = 0; k < static_cast<int32_t>(kNeurons); ++k) removed.insert(k);
  if (count == static_cast<int64_t>(kNeurons)) return removed;
  const Mask mask = SelectUniform(order, static_cast<int64_t>(kNeurons) - count, /*threads=*/1);
  for (const int32_t k : mask.kept[layer]) removed.erase(k);
  return removed;
}

TEST(CusPrun, TheStrictSetIsTheIntersectionOverDocuments) {
  std::mt19937 random(1);
  for (const int count : {1, 3, 40}) {  // the last is more than the ranks a profile keeps
    const std::vector<Scores> documents = RandomDocuments(count, random);
    const RelevanceView view = ViewOf(ProfileOf(documents));
    ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&view, 1}}));
    for (const double sigma : Sigmas()) {
      const std::vector<int64_t> counts = IrrelevantCounts(order, sigma);
      ASSERT_EQ(counts.size(), kLayers);
      for (size_t layer = 0; layer < kLayers; ++layer) {
        const std::set<int32_t> strict = StrictSet(documents, layer, sigma);
        ASSERT_EQ(counts[layer], static_cast<int64_t>(strict.size())) << sigma;
        ASSERT_EQ(RemovedAt(order, layer, counts[layer]), strict) << sigma;
      }
    }
  }
}

// Relaxed: in the bottom sigma share of its layer in at least a quantile of the documents.
TEST(CusPrun, AQuantileAsksForSoManyDocuments) {
  std::mt19937 random(31);
  const std::vector<Scores> documents = RandomDocuments(20, random);
  const Profile profile = ProfileOf(documents);
  for (const double quantile : {0.05, 0.5, 0.9, 1.0}) {
    const RelevanceView view = ViewOf(profile, {.quantile = quantile});
    ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&view, 1}}));
    for (const double sigma : Sigmas()) {
      const std::vector<int64_t> counts = IrrelevantCounts(order, sigma);
      for (size_t layer = 0; layer < kLayers; ++layer) {
        std::map<int32_t, int> irrelevant_in;
        for (const Scores& document : documents) {
          for (const int32_t k : StrictSet({document}, layer, sigma)) ++irrelevant_in[k];
        }
        const auto enough = std::count_if(
            irrelevant_in.begin(), irrelevant_in.end(),
            [&](const auto& neuron) { return neuron.second >= quantile * 20 - 1e-9; });
        ASSERT_EQ(counts[layer], enough) << quantile << " at sigma " << sigma;
      }
    }
  }
}

TEST(CusPrun, TheLargestSigmaLeavesANeuronInEveryLayerAndNoLargerOneDoes) {
  std::mt19937 random(32);
  const Profile profile = ProfileOf(RandomDocuments(12, random));
  for (const double quantile : {0.25, 0.75, 1.0}) {
    const RelevanceView view = ViewOf(profile, {.quantile = quantile});
    ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&view, 1}}));
    const double largest = LargestSigma(order);
    const auto most = [&](double sigma) {
      const std::vector<int64_t> counts = IrrelevantCounts(order, sigma);
      return *std::max_element(counts.begin(), counts.end());
    };
    EXPECT_LT(most(largest), static_cast<int64_t>(kNeurons));
    EXPECT_EQ(most(std::nextafter(largest, 1.0)), static_cast<int64_t>(kNeurons));
  }
}

TEST(CusPrun, StrictOverViewsIsStrictOverTheUnionOfTheirDocuments) {
  std::mt19937 random(2);
  std::vector<std::vector<Scores>> dimensions;
  std::vector<Scores> all;
  for (const int count : {3, 8, 1}) {
    dimensions.push_back(RandomDocuments(count, random));
    all.insert(all.end(), dimensions.back().begin(), dimensions.back().end());
  }
  std::vector<RelevanceView> views;
  for (const auto& documents : dimensions) views.push_back(ViewOf(ProfileOf(documents)));
  const RelevanceView whole = ViewOf(ProfileOf(all));
  ASSERT_OK_AND_ASSIGN(const RemovalOrder composed,
                       Compose(Rule::kCusPrun, {{&views[0], 1}, {&views[1], 2}, {&views[2], 5}}));
  ASSERT_OK_AND_ASSIGN(const RemovalOrder direct, Compose(Rule::kCusPrun, {{&whole, 1}}));
  EXPECT_EQ(composed.layers, direct.layers);
  for (const double sigma : {0.3, 0.6, 0.9}) {
    for (size_t layer = 0; layer < kLayers; ++layer) {
      EXPECT_EQ(IrrelevantCounts(composed, sigma)[layer],
                static_cast<int64_t>(StrictSet(all, layer, sigma).size()));
    }
  }
}

TEST(CusPrun, ThePublishedFormRemovesExactlyTheStrictSets) {
  std::mt19937 random(21);
  for (const int count : {1, 4}) {
    const std::vector<Scores> documents = RandomDocuments(count, random);
    const RelevanceView view = ViewOf(ProfileOf(documents));
    ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&view, 1}}));
    for (const double sigma : {0.0, 0.3, 0.5, 0.8, 0.999}) {
      const Mask mask = SelectRelevant(order, sigma);
      for (size_t layer = 0; layer < kLayers; ++layer) {
        std::set<int32_t> kept(mask.kept[layer].begin(), mask.kept[layer].end());
        const std::set<int32_t> strict = StrictSet(documents, layer, sigma);
        EXPECT_EQ(kept.size() + strict.size(), kNeurons);
        for (const int32_t channel : strict) EXPECT_FALSE(kept.contains(channel));
        EXPECT_EQ(kept.empty(), sigma > 36.0 / 37);
      }
    }
  }
}

// More is irrelevant at a larger sigma, and what was stays so.
TEST(CusPrun, MasksAreNestedInSigma) {
  std::mt19937 random(22);
  const RelevanceView view = ViewOf(ProfileOf(RandomDocuments(3, random)));
  ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&view, 1}}));
  Mask wider = SelectRelevant(order, 0);
  for (const double sigma : {0.1, 0.25, 0.4, 0.6, 0.9}) {
    const Mask mask = SelectRelevant(order, sigma);
    for (size_t layer = 0; layer < kLayers; ++layer) {
      EXPECT_TRUE(std::includes(wider.kept[layer].begin(), wider.kept[layer].end(),
                                mask.kept[layer].begin(), mask.kept[layer].end()));
    }
    wider = mask;
  }
}

TEST(CusPrun, WeightsMakeNoDifference) {
  std::mt19937 random(3);
  const RelevanceView a = RandomView(2, 400, random);
  const RelevanceView b = RandomView(2, 400, random);
  ASSERT_OK_AND_ASSIGN(const RemovalOrder even, Compose(Rule::kCusPrun, {{&a, 1}, {&b, 1}}));
  ASSERT_OK_AND_ASSIGN(const RemovalOrder uneven, Compose(Rule::kCusPrun, {{&a, 1e9}, {&b, 1e-9}}));
  EXPECT_EQ(even.layers, uneven.layers);
}

TEST(CusPrun, OfEqualRanksTheLowerChannelIsRemovedFirst) {
  RelevanceView view;
  view.layers.resize(1);
  view.layers[0].relevance.assign(6, 1.0f);
  view.layers[0].max_rank = {5, 3, 5, 3, 5, 3};
  ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&view, 1}}));
  EXPECT_EQ(SelectUniform(order, 4).kept[0], (std::vector<int32_t>{0, 2, 4, 5}));
  EXPECT_EQ(SelectUniform(order, 2).kept[0], (std::vector<int32_t>{2, 4}));
}

TEST(CusPrun, SigmaForRemovedIsTheSmallestThatReachesTheCountInEveryLayer) {
  std::mt19937 random(4);
  for (const size_t width : {size_t{1}, size_t{61}, size_t{256}, size_t{1000}}) {
    const RelevanceView a = RandomView(4, width, random);
    const RelevanceView b = RandomView(4, width, random);
    ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&a, 1}, {&b, 1}}));
    const auto fewest = [&](double sigma) {
      const std::vector<int64_t> counts = IrrelevantCounts(order, sigma);
      return *std::min_element(counts.begin(), counts.end());
    };
    EXPECT_EQ(SigmaForRemoved(order, 0), 0.0);
    for (size_t removed = 1; removed <= width; removed += 1 + width / 50) {
      const auto wanted = static_cast<int64_t>(removed);
      const double sigma = SigmaForRemoved(order, wanted);
      ASSERT_GT(sigma, 0.0);
      ASSERT_LE(sigma, 1.0);
      ASSERT_GE(fewest(sigma), wanted) << width;
      // Counts change on the grid of ranks only: one step less is too little.
      const auto neurons = static_cast<double>(width);
      ASSERT_LT(fewest((std::round(sigma * neurons) - 1) / neurons), wanted) << width;
    }
  }
}

TEST(CusPrun, SigmaForRemovedIsLargeEnoughForTheUniformMask) {
  std::mt19937 random(5);
  const RelevanceView a = RandomView(3, 500, random);
  const RelevanceView b = RandomView(3, 500, random);
  ASSERT_OK_AND_ASSIGN(const RemovalOrder order, Compose(Rule::kCusPrun, {{&a, 1}, {&b, 1}}));
  const double sigma = SigmaForRemoved(order, 120);
  const Mask mask = SelectUniform(order, 380);
  for (size_t layer = 0; layer < 3; ++layer) {
    std::set<int32_t> kept(mask.kept[layer].begin(), mask.kept[layer].end());
    for (int32_t k = 0; k < 500; ++k) {
      if (kept.contains(k)) continue;
      const auto i = static_cast<size_t>(k);
      const int rank = std::max(a.layers[layer].max_rank[i], b.layers[layer].max_rank[i]);
      EXPECT_LT(rank / 500.0, sigma);
    }
  }
}

}  // namespace
}  // namespace secateur
