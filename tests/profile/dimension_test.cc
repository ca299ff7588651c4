#include "server/profile/dimension.h"

#include <algorithm>
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
  EXPECT_EQ(view.bytes(), kLayers * kChannels * 10 + 2 * protected_neurons);
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
  const RelevanceView view = ViewOf(*Profile::Empty(1, 4));
  EXPECT_EQ(view.documents, 0);
  EXPECT_THAT(view.layers[0].relevance, Each(0.0f));
  EXPECT_THAT(view.layers[0].max_rank, Each(0));
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
    EXPECT_EQ(merged.layers[l].protected_channels, view.layers[l].protected_channels);
  }
}

TEST(MergeViews, RefusesWhatHasNoMean) {
  const RelevanceView view = ViewOf(ProfileOf(Documents(2, 1), kLayers, kChannels));
  const RelevanceView empty = ViewOf(*Profile::Empty(kLayers, kChannels));
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
  EXPECT_THAT(MergeViews({&view, &shallow}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("corpus 1 has layers")));
}

}  // namespace
}  // namespace secateur
