#include "server/profile/dimension.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/profile/random_profile.h"

namespace secateur {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr int64_t kLayers = 3;
constexpr int64_t kChannels = 40;

std::vector<RandomDocument> Documents(int64_t count, uint64_t seed) {
  return MakeDocuments(count, kLayers, kChannels, seed);
}

// The mean over documents of s_k^2 / sum_j s_j^2.
double MeanShare(const std::vector<RandomDocument>& documents, size_t layer, size_t channel) {
  double sum = 0;
  for (const RandomDocument& document : documents) {
    const std::vector<float>& s = document[layer].relative;
    sum += s[channel] / std::accumulate(s.begin(), s.end(), 0.0);
  }
  return sum / static_cast<double>(documents.size());
}

bool Protects(const RelevanceView& view, size_t layer, size_t channel) {
  const std::vector<uint16_t>& channels = view.layers[layer].protected_channels;
  return std::binary_search(channels.begin(), channels.end(), static_cast<uint16_t>(channel));
}

TEST(ViewOf, GivesTheMeanShareAndTheLargestRank) {
  const auto documents = Documents(37, 1);
  const Profile profile = ProfileOf(documents, kLayers, kChannels);
  const RelevanceView view = ViewOf(profile);
  EXPECT_EQ(view.documents, 37);
  EXPECT_EQ(view.tokens, 370);
  ASSERT_EQ(view.layers.size(), static_cast<size_t>(kLayers));
  int64_t protected_neurons = 0;
  for (size_t l = 0; l < kLayers; ++l) {
    double total = 0;
    for (size_t k = 0; k < kChannels; ++k) {
      const double expected = MeanShare(documents, l, k);
      EXPECT_NEAR(view.layers[l].relevance[k], expected, 1e-7 * expected + kScoreUnit);
      EXPECT_EQ(view.layers[l].max_rank[k], profile.layers[l].top_ranks[k * kTopRanks]);
      total += view.layers[l].relevance[k];
    }
    EXPECT_NEAR(total, 1, 1e-6);
    protected_neurons += std::ssize(view.layers[l].protected_channels);
  }
  EXPECT_EQ(view.bytes(), kLayers * (kChannels * 10 + kGroups * 4) + 2 * protected_neurons);
}

TEST(ViewOf, GivesGroupsAndNeuronsInOneUnitWhateverTheStatistic) {
  const auto documents = Documents(11, 9);
  const Profile profile = ProfileOf(documents, kLayers, kChannels);
  for (const Statistic statistic :
       {Statistic::kRelative, Statistic::kPaper, Statistic::kLogRelative, Statistic::kRank}) {
    const RelevanceView view = ViewOf(profile, {.statistic = statistic});
    for (size_t l = 0; l < kLayers; ++l) {
      double total = 0;
      std::vector<double> groups(kGroups);
      for (const RandomDocument& document : documents) {
        const std::vector<float>& s = document[l].relative;
        total += std::accumulate(s.begin(), s.end(), 0.0) / 11;
        for (size_t g = 0; g < kGroups; ++g) {
          groups[g] += GroupScore(document[l], static_cast<int64_t>(g)) / 11;
        }
      }
      EXPECT_NEAR(view.layers[l].score_total, total, 1e-12 * total + kChannels * kScoreUnit);
      ASSERT_EQ(view.layers[l].group_score.size(), static_cast<size_t>(kGroups));
      for (size_t g = 0; g < kGroups; ++g) {
        EXPECT_NEAR(view.layers[l].group_score[g], groups[g], 1e-7 * groups[g] + kScoreUnit);
      }
    }
  }
}

TEST(ViewOf, KeepsApartWhatOneHalfSays) {
  const auto documents = Documents(23, 5);
  std::vector<RandomDocument> in_half;
  for (const RandomDocument& document : documents) {
    if (document[0].in_half) in_half.push_back(document);
  }
  ASSERT_FALSE(in_half.empty());
  const RelevanceView view = ViewOf(ProfileOf(documents, kLayers, kChannels));
  EXPECT_DOUBLE_EQ(view.half_share, static_cast<double>(in_half.size()) / 23);
  for (size_t l = 0; l < kLayers; ++l) {
    for (size_t k = 0; k < kChannels; ++k) {
      const double expected = view.half_share * MeanShare(in_half, l, k);
      EXPECT_NEAR(view.layers[l].half[k], expected, 1e-7 * expected + kScoreUnit);
    }
  }
}

// Each by its definition, from the documents' own scores.
TEST(ViewOf, GivesTheStatisticThatWasAskedFor) {
  const auto documents = Documents(12, 6);
  const Profile profile = ProfileOf(documents, kLayers, kChannels);
  const RelevanceView paper = ViewOf(profile, {.statistic = Statistic::kPaper});
  const RelevanceView logs = ViewOf(profile, {.statistic = Statistic::kLogRelative});
  const RelevanceView ranks = ViewOf(profile, {.statistic = Statistic::kRank});
  for (size_t l = 0; l < kLayers; ++l) {
    for (size_t k = 0; k < kChannels; ++k) {
      double share = 0, log = 0, rank = 0;
      for (const RandomDocument& document : documents) {
        const std::vector<float>& s = document[l].paper;
        share += s[k] / std::accumulate(s.begin(), s.end(), 0.0) / 12;
        log += (kLogShift + std::log(document[l].relative[k] + 1e-30)) / 12;
        for (size_t j = 0; j < kChannels; ++j) {
          rank += s[j] < s[k] || (s[j] == s[k] && j < k) ? 1.0 / (12 * kChannels) : 0.0;
        }
      }
      EXPECT_NEAR(paper.layers[l].relevance[k], share, 1e-6 * share + kScoreUnit);
      EXPECT_NEAR(logs.layers[l].relevance[k], log, 1e-4);
      EXPECT_GT(logs.layers[l].relevance[k], 0);
      EXPECT_NEAR(ranks.layers[l].relevance[k], rank, 1e-6);
    }
    // A half is kept of one statistic alone.
    EXPECT_TRUE(paper.layers[l].half.empty());
    EXPECT_EQ(paper.layers[l].max_rank, ranks.layers[l].max_rank);
    EXPECT_EQ(paper.layers[l].protected_channels, logs.layers[l].protected_channels);
  }
  EXPECT_EQ(paper.half_share, 0);
}

TEST(ViewOf, MergedStatisticsAreWeightedMeansToo) {
  for (const Statistic statistic : {Statistic::kPaper, Statistic::kLogRelative, Statistic::kRank}) {
    const RelevanceView a =
        ViewOf(ProfileOf(Documents(5, 1), kLayers, kChannels), {.statistic = statistic});
    const RelevanceView b =
        ViewOf(ProfileOf(Documents(15, 2), kLayers, kChannels), {.statistic = statistic});
    ASSERT_OK_AND_ASSIGN(const RelevanceView merged, MergeViews({&a, &b}));
    EXPECT_TRUE(merged.layers[0].half.empty());
    for (size_t k = 0; k < kChannels; ++k) {
      EXPECT_NEAR(merged.layers[1].relevance[k],
                  0.25 * a.layers[1].relevance[k] + 0.75 * b.layers[1].relevance[k], 1e-5);
    }
  }
}

TEST(ViewOf, KnowsAQuantileAsFarAsRanksAreKept) {
  EXPECT_EQ(LeastQuantile(1), 0);
  EXPECT_EQ(LeastQuantile(kTopRanks), 0);
  EXPECT_DOUBLE_EQ(LeastQuantile(100), 0.69);
  const auto documents = Documents(50, 8);
  const Profile profile = ProfileOf(documents, kLayers, kChannels);
  for (const double quantile : {LeastQuantile(50), 0.5, 0.9, 0.95, 1.0}) {
    const RelevanceView view = ViewOf(profile, {.quantile = quantile});
    for (size_t k = 0; k < kChannels; ++k) {
      std::vector<uint16_t> ranks;
      for (const RandomDocument& document : documents) {
        const std::vector<float>& s = document[2].paper;
        uint16_t rank = 0;
        for (size_t j = 0; j < kChannels; ++j) {
          rank += s[j] < s[k] || (s[j] == s[k] && j < k) ? 1 : 0;
        }
        ranks.push_back(rank);
      }
      std::sort(ranks.begin(), ranks.end());
      // The ceil(q N)-th smallest.
      const auto within = static_cast<size_t>(std::ceil(quantile * 50 - 1e-9));
      EXPECT_EQ(view.layers[2].max_rank[k], ranks[within - 1]) << quantile;
    }
  }
}

TEST(ViewOf, ProtectsNeuronsThatEverWroteATenthOfTheLargestCoordinate) {
  const auto documents = Documents(6, 4);
  const RelevanceView view = ViewOf(ProfileOf(documents, kLayers, kChannels));
  size_t found = 0;
  for (size_t l = 0; l < kLayers; ++l) {
    float residual = 0;
    std::vector<float> peaks(kChannels);
    for (const RandomDocument& document : documents) {
      residual = std::max(residual, document[l].residual_peak);
      for (size_t k = 0; k < kChannels; ++k) peaks[k] = std::max(peaks[k], document[l].peak[k]);
    }
    std::vector<uint16_t> expected;
    for (uint16_t k = 0; k < kChannels; ++k) {
      if (peaks[k] > 0.1f * residual) expected.push_back(k);
    }
    EXPECT_EQ(view.layers[l].protected_channels, expected);
    found += expected.size();
  }
  EXPECT_GT(found, 0u);
  EXPECT_LT(found, static_cast<size_t>(kLayers * kChannels));
}

TEST(ViewOf, GivesZerosForAProfileWithoutDocuments) {
  const RelevanceView view = ViewOf(*Profile::Empty(1, 4, 2));
  EXPECT_EQ(view.documents, 0);
  EXPECT_THAT(view.layers[0].relevance, Each(0.0f));
  EXPECT_THAT(view.layers[0].max_rank, Each(0));
  EXPECT_THAT(view.layers[0].group_score, Each(0.0f));
  EXPECT_EQ(view.layers[0].score_total, 0);
}

TEST(MergeViews, WeighsEachCorpusByItsDocumentsUpToTheCap) {
  const std::vector<std::vector<RandomDocument>> corpora = {
      Documents(10, 1), Documents(kCorpusWeightCap, 2), Documents(300, 3)};
  const std::vector<double> weights = {10, kCorpusWeightCap, kCorpusWeightCap};
  std::vector<RelevanceView> views;
  for (const auto& corpus : corpora) {
    views.push_back(ViewOf(ProfileOf(corpus, kLayers, kChannels)));
  }
  ASSERT_OK_AND_ASSIGN(const RelevanceView merged, MergeViews({&views[0], &views[1], &views[2]}));
  EXPECT_EQ(merged.documents, 374);
  EXPECT_EQ(merged.tokens, 3740);
  double share = 0;
  for (size_t c = 0; c < corpora.size(); ++c) share += weights[c] / 138 * views[c].half_share;
  EXPECT_DOUBLE_EQ(merged.half_share, share);
  for (size_t l = 0; l < kLayers; ++l) {
    double total = 0;
    for (size_t c = 0; c < corpora.size(); ++c) {
      total += weights[c] / 138 * views[c].layers[l].score_total;
    }
    EXPECT_DOUBLE_EQ(merged.layers[l].score_total, total);
    for (size_t g = 0; g < kGroups; ++g) {
      double score = 0;
      for (size_t c = 0; c < corpora.size(); ++c) {
        score += weights[c] / 138 * views[c].layers[l].group_score[g];
      }
      EXPECT_FLOAT_EQ(merged.layers[l].group_score[g], static_cast<float>(score));
    }
    for (size_t k = 0; k < kChannels; ++k) {
      double expected = 0, half = 0;
      uint16_t rank = 0;
      bool is_protected = false;
      for (size_t c = 0; c < corpora.size(); ++c) {
        expected += weights[c] * MeanShare(corpora[c], l, k) / 138;
        half += weights[c] / 138 * views[c].layers[l].half[k];
        rank = std::max(rank, views[c].layers[l].max_rank[k]);
        is_protected |= Protects(views[c], l, k);
      }
      EXPECT_NEAR(merged.layers[l].half[k], half, 1e-6 * half + kScoreUnit);
      EXPECT_EQ(Protects(merged, l, k), is_protected);
      EXPECT_NEAR(merged.layers[l].relevance[k], expected, 1e-6 * expected + kScoreUnit);
      EXPECT_EQ(merged.layers[l].max_rank[k], rank);
    }
  }
}

// ALGORITHM 3.2: the strict set over dimensions is the strict set over the union of their corpora.
TEST(MergeViews, GivesTheRanksOfTheUnionOfTheCorpora) {
  const auto a = Documents(20, 1);
  const auto b = Documents(15, 2);
  auto both = a;
  both.insert(both.end(), b.begin(), b.end());
  const RelevanceView view_a = ViewOf(ProfileOf(a, kLayers, kChannels));
  const RelevanceView view_b = ViewOf(ProfileOf(b, kLayers, kChannels));
  const RelevanceView view_both = ViewOf(ProfileOf(both, kLayers, kChannels));
  ASSERT_OK_AND_ASSIGN(const RelevanceView merged, MergeViews({&view_a, &view_b}));
  for (size_t l = 0; l < kLayers; ++l) {
    EXPECT_EQ(merged.layers[l].max_rank, view_both.layers[l].max_rank);
  }
}

TEST(MergeViews, LeavesASingleCorpusAsItIs) {
  const RelevanceView view = ViewOf(ProfileOf(Documents(9, 1), kLayers, kChannels));
  ASSERT_OK_AND_ASSIGN(const RelevanceView merged, MergeViews({&view}));
  EXPECT_EQ(merged.documents, view.documents);
  for (size_t l = 0; l < kLayers; ++l) {
    EXPECT_EQ(merged.layers[l].relevance, view.layers[l].relevance);
    EXPECT_EQ(merged.layers[l].max_rank, view.layers[l].max_rank);
    EXPECT_EQ(merged.layers[l].half, view.layers[l].half);
    EXPECT_EQ(merged.layers[l].group_score, view.layers[l].group_score);
    EXPECT_EQ(merged.layers[l].score_total, view.layers[l].score_total);
    EXPECT_EQ(merged.layers[l].protected_channels, view.layers[l].protected_channels);
  }
}

TEST(MergeViews, RefusesWhatHasNoMean) {
  const RelevanceView view = ViewOf(ProfileOf(Documents(2, 1), kLayers, kChannels));
  const RelevanceView empty = ViewOf(*Profile::Empty(kLayers, kChannels, kGroups));
  RelevanceView narrow = view;
  narrow.layers[1].relevance.pop_back();
  RelevanceView shallow = view;
  shallow.layers.pop_back();
  EXPECT_THAT(MergeViews({}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no corpora")));
  EXPECT_THAT(MergeViews({&view, &empty}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("corpus 1 has no documents")));
  EXPECT_THAT(MergeViews({&view, &narrow}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("corpus 1 has layers")));
  RelevanceView grouped = view;
  grouped.layers[2].group_score.push_back(0);
  EXPECT_THAT(MergeViews({&view, &grouped}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("corpus 1 has layers")));
  EXPECT_THAT(MergeViews({&view, &shallow}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("corpus 1 has layers")));
}

}  // namespace
}  // namespace secateur
