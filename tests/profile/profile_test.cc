#include "server/profile/profile.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>

#include "tests/profile/random_profile.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

constexpr int64_t kLayers = 2;
constexpr int64_t kChannels = 61;
constexpr uint64_t kOne = uint64_t{1} << 40;

// Ranks by definition: the number of neurons with a smaller (score, channel).
std::vector<uint16_t> RanksByDefinition(const std::vector<float>& scores) {
  std::vector<uint16_t> ranks(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    for (size_t j = 0; j < scores.size(); ++j) {
      if (std::pair(scores[j], j) < std::pair(scores[i], i)) ++ranks[i];
    }
  }
  return ranks;
}

// [document][channel] of one layer.
std::vector<std::vector<uint16_t>> AllRanks(const std::vector<RandomDocument>& documents,
                                            size_t layer) {
  std::vector<std::vector<uint16_t>> all;
  for (const RandomDocument& document : documents) {
    all.push_back(RanksByDefinition(document[layer].paper));
  }
  return all;
}

DocumentScores ScoresOf(const std::vector<float>& values) {
  return {.relative = values, .paper = values, .activation = values, .peak = values};
}

LayerStatistics EmptyLayer(int64_t channels) { return Profile::Empty(1, channels, 1)->layers[0]; }

TEST(AddDocument, AddsRoundedValuesOfTheDefinitions) {
  const auto documents = MakeDocuments(3, 1, kChannels, 1);
  const Profile profile = ProfileOf(documents, 1, kChannels);
  const LayerStatistics& sums = profile.layers[0];
  for (size_t k = 0; k < kChannels; ++k) {
    double normalized = 0, paper = 0, score = 0, log_score = 0, mean = 0;
    double half = 0;
    float peak = 0, residual_peak = 0;
    for (const RandomDocument& document : documents) {
      const DocumentScores& s = document[0];
      normalized += s.relative[k] / std::accumulate(s.relative.begin(), s.relative.end(), 0.0);
      paper += s.paper[k] / std::accumulate(s.paper.begin(), s.paper.end(), 0.0);
      score += s.relative[k];
      log_score += std::log(static_cast<double>(s.relative[k]) + 1e-30);
      mean += s.activation[k];
      peak = std::max(peak, s.peak[k]);
      residual_peak = std::max(residual_peak, s.residual_peak);
      if (s.in_half) {
        half += s.relative[k] / std::accumulate(s.relative.begin(), s.relative.end(), 0.0);
      }
    }
    // Half a unit of rounding for each of three documents.
    EXPECT_NEAR(static_cast<double>(sums.normalized[k]) * kScoreUnit, normalized, 2 * kScoreUnit);
    EXPECT_NEAR(static_cast<double>(sums.paper_normalized[k]) * kScoreUnit, paper, 2 * kScoreUnit);
    EXPECT_NEAR(static_cast<double>(sums.score[k]) * kScoreUnit, score,
                2 * kScoreUnit + 1e-15 * score);
    EXPECT_NEAR(static_cast<double>(sums.log_score[k]) * kLogUnit, log_score, 2 * kLogUnit);
    EXPECT_NEAR(static_cast<double>(sums.activation[k]) * kActivationUnit, mean,
                2 * kActivationUnit);
    EXPECT_NEAR(static_cast<double>(sums.half_normalized[k]) * kScoreUnit, half, 2 * kScoreUnit);
    EXPECT_EQ(sums.peak[k], peak);
    EXPECT_EQ(sums.residual_peak, residual_peak);
    EXPECT_EQ(sums.IsProtected(k), peak > 0.1f * residual_peak);
  }
}

TEST(AddDocument, RanksByPaperScoreThenChannel) {
  for (const int64_t channels : {1, 2, 61, 1000}) {
    const auto documents = MakeDocuments(1, 1, channels, 7);
    const Profile profile = ProfileOf(documents, 1, channels);
    const std::vector<uint16_t> expected = RanksByDefinition(documents[0][0].paper);
    EXPECT_EQ(std::vector<uint64_t>(expected.begin(), expected.end()), profile.layers[0].rank);
  }
}

TEST(AddDocument, RanksMinusZeroAsZero) {
  LayerStatistics layer = EmptyLayer(3);
  ASSERT_OK(AddDocument(ScoresOf({0.0f, -0.0f, 0.0f}), 0, layer));
  EXPECT_EQ(layer.rank, (std::vector<uint64_t>{0, 1, 2}));
}

TEST(AddDocument, KeepsTheLargestRanksOfEachNeuron) {
  for (const int64_t count : {1, 5, 31, 32, 33, 200}) {
    const auto documents = MakeDocuments(count, kLayers, kChannels, 11);
    const Profile profile = ProfileOf(documents, kLayers, kChannels);
    for (size_t l = 0; l < kLayers; ++l) {
      const auto ranks = AllRanks(documents, l);
      for (size_t k = 0; k < kChannels; ++k) {
        std::vector<uint16_t> expected;
        for (const auto& document : ranks) expected.push_back(document[k]);
        std::sort(expected.begin(), expected.end(), std::greater<>());
        expected.resize(kTopRanks);  // longer lists lose their tail, shorter ones get zeros
        const auto row = profile.layers[l].top_ranks.begin() + static_cast<long>(k) * kTopRanks;
        EXPECT_EQ(std::vector<uint16_t>(row, row + kTopRanks), expected);
      }
    }
  }
}

TEST(AddDocument, CountsADocumentOfZerosAsNoShare) {
  LayerStatistics layer = EmptyLayer(4);
  ASSERT_OK(AddDocument(ScoresOf({0, 0, 0, 0}), 0, layer));
  EXPECT_THAT(layer.normalized, Each(0));
  EXPECT_THAT(layer.log_score, Each(std::llround(std::log(1e-30) / kLogUnit)));
}

TEST(AddDocument, SaturatesScoresAndMeanActivations) {
  constexpr float kHuge = 1e30f;
  LayerStatistics layer = EmptyLayer(2);
  DocumentScores scores = ScoresOf({kHuge, 1.0f});
  scores.activation = {kHuge, -kHuge};
  for (int64_t i = 0; i < 3; ++i) ASSERT_OK(AddDocument(scores, i, layer));
  EXPECT_EQ(layer.score[0], std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(layer.score[1], 3 * kOne);
  const auto limit = static_cast<int64_t>(kActivationLimit / kActivationUnit);
  EXPECT_EQ(layer.activation, (std::vector<int64_t>{3 * limit, -3 * limit}));
}

TEST(AddDocument, RefusesValuesThatAreNoScoresAndNamesTheChannel) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  struct Case {
    std::vector<float> DocumentScores::* values;
    std::string name;
    bool negative_is_fine;
  };
  for (const Case& c : {Case{&DocumentScores::relative, "relative score", false},
                        Case{&DocumentScores::paper, "paper score", false},
                        Case{&DocumentScores::activation, "mean activation", true},
                        Case{&DocumentScores::peak, "peak", false}}) {
    for (const float value : {kNan, kInfinity, -kInfinity, -1.0f}) {
      LayerStatistics layer = EmptyLayer(5);
      const LayerStatistics before = layer;
      DocumentScores scores = ScoresOf({1, 2, 3, 4, 5});
      (scores.*c.values)[3] = value;
      const absl::Status status = AddDocument(scores, 0, layer);
      if (value == -1.0f && c.negative_is_fine) {
        EXPECT_OK(status);
        continue;
      }
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                                   AllOf(HasSubstr("channel 3"), HasSubstr(c.name))));
      EXPECT_EQ(layer.rank, before.rank);
      EXPECT_EQ(layer.normalized, before.normalized);
    }
  }
}

TEST(AddDocument, RefusesScoresOfAnotherWidth) {
  for (std::vector<float> DocumentScores::* values :
       {&DocumentScores::relative, &DocumentScores::paper, &DocumentScores::activation,
        &DocumentScores::peak}) {
    LayerStatistics layer = EmptyLayer(3);
    DocumentScores scores = ScoresOf({1, 2, 3});
    (scores.*values).push_back(4);
    EXPECT_THAT(AddDocument(scores, 0, layer),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a layer of 3")));
  }
}

TEST(AddDocument, RefusesMoreDocumentsThanSumsHoldFor) {
  LayerStatistics layer = EmptyLayer(1);
  EXPECT_OK(AddDocument(ScoresOf({1}), kMaxDocuments - 1, layer));
  EXPECT_THAT(AddDocument(ScoresOf({1}), kMaxDocuments, layer),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("2097152")));
}

TEST(Merge, GivesTheBytesOfASinglePassForAnySplitInAnyOrder) {
  std::mt19937_64 random(5);
  const auto documents = MakeDocuments(90, kLayers, kChannels, 3);
  const std::string expected = FileOf(ProfileOf(documents, kLayers, kChannels));
  for (int round = 0; round < 20; ++round) {
    std::vector<std::vector<RandomDocument>> parts(1 + random() % 12);
    for (const RandomDocument& document : documents) {
      parts[random() % parts.size()].push_back(document);
    }
    std::vector<Profile> profiles;
    for (auto& part : parts) {
      std::shuffle(part.begin(), part.end(), random);
      profiles.push_back(ProfileOf(part, kLayers, kChannels));
    }
    // A random tree of merges.
    while (profiles.size() > 1) {
      std::shuffle(profiles.begin(), profiles.end(), random);
      ASSERT_OK(profiles[0].Merge(profiles.back()));
      profiles.pop_back();
    }
    ASSERT_EQ(FileOf(profiles[0]), expected) << "round " << round;
  }
}

TEST(Merge, IsCommutativeAndAssociative) {
  const Profile a = ProfileOf(MakeDocuments(7, kLayers, kChannels, 1), kLayers, kChannels);
  const Profile b = ProfileOf(MakeDocuments(40, kLayers, kChannels, 2), kLayers, kChannels);
  const Profile c = ProfileOf(MakeDocuments(1, kLayers, kChannels, 3), kLayers, kChannels);
  Profile ab = a, ba = b, bc = b, a_bc = a;
  ASSERT_OK(ab.Merge(b));
  ASSERT_OK(ba.Merge(a));
  EXPECT_TRUE(ab == ba);
  ASSERT_OK(ab.Merge(c));
  ASSERT_OK(bc.Merge(c));
  ASSERT_OK(a_bc.Merge(bc));
  EXPECT_TRUE(ab == a_bc);
  EXPECT_FALSE(ab == ba);
}

TEST(Merge, LeavesAProfileAsItIsWhenTheOtherIsEmpty) {
  Profile profile = ProfileOf(MakeDocuments(3, kLayers, kChannels, 1), kLayers, kChannels);
  const Profile before = profile;
  ASSERT_OK(profile.Merge(*Profile::Empty(kLayers, kChannels, kGroups)));
  EXPECT_TRUE(profile == before);
}

TEST(Merge, RefusesAnOverflowAndChangesNothing) {
  const Profile one = ProfileOf(MakeDocuments(1, 1, 3, 1), 1, 3);
  const std::vector<std::pair<std::string, std::function<void(LayerStatistics&)>>> cases = {
      {"\"normalized\" of channel 2", [](auto& l) { l.normalized[2] = ~uint64_t{0}; }},
      {"\"paper_normalized\" of channel 2", [](auto& l) { l.paper_normalized[2] = ~uint64_t{0}; }},
      {"\"rank\" of channel 2", [](auto& l) { l.rank[2] = ~uint64_t{0}; }},
      {"\"log_score\" of channel 2",
       [](auto& l) { l.log_score[2] = std::numeric_limits<int64_t>::min(); }},
      {"\"activation\" of channel 2",
       [](auto& l) { l.activation[2] = std::numeric_limits<int64_t>::max(); }},
  };
  for (const auto& [name, spoil] : cases) {
    Profile full = one;
    spoil(full.layers[0]);
    const Profile before = full;
    EXPECT_THAT(full.Merge(full), StatusIs(absl::StatusCode::kOutOfRange,
                                           AllOf(HasSubstr("layer 0"), HasSubstr(name))));
    EXPECT_TRUE(full == before);
  }
  Profile many = one;
  many.documents = kMaxDocuments;
  EXPECT_THAT(many.Merge(one), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("documents")));
  Profile wordy = one;
  wordy.tokens = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(wordy.Merge(one), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("tokens")));
}

TEST(Merge, SaturatesScores) {
  for (const auto scores : {&LayerStatistics::score, &LayerStatistics::group_score}) {
    Profile a = *Profile::Empty(1, 1, 1);
    (a.layers[0].*scores)[0] = ~uint64_t{0} - 5;
    Profile b = *Profile::Empty(1, 1, 1);
    (b.layers[0].*scores)[0] = 6;
    ASSERT_OK(a.Merge(b));
    EXPECT_EQ((a.layers[0].*scores)[0], ~uint64_t{0});
  }
}

TEST(Merge, RefusesAnotherShape) {
  Profile profile = *Profile::Empty(2, 3, 4);
  EXPECT_THAT(profile.Merge(*Profile::Empty(2, 4, 4)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4 neurons")));
  EXPECT_THAT(profile.Merge(*Profile::Empty(1, 3, 4)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 layers")));
  EXPECT_THAT(profile.Merge(*Profile::Empty(2, 3, 2)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 KV head groups")));
}

TEST(Empty, RefusesShapesItCannotHold) {
  EXPECT_OK(Profile::Empty(1, 65536, 1).status());
  EXPECT_THAT(Profile::Empty(1, 65537, 1),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("65537")));
  EXPECT_THAT(Profile::Empty(0, 4, 4), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Profile::Empty(4, 0, 4), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Profile::Empty(4, 4, 0), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Equality, SeesEveryStatistic) {
  const Profile profile = ProfileOf(MakeDocuments(2, 1, 3, 1), 1, 3);
  const std::vector<std::function<void(Profile&)>> changes = {
      [](Profile& p) { ++p.documents; },
      [](Profile& p) { ++p.tokens; },
      [](Profile& p) { ++p.dropped_tokens; },
      [](Profile& p) { ++p.half_documents; },
      [](Profile& p) { ++p.layers[0].half_normalized[1]; },
      [](Profile& p) { p.layers[0].residual_peak += 1; },
      [](Profile& p) { ++p.layers[0].normalized[1]; },
      [](Profile& p) { ++p.layers[0].paper_normalized[1]; },
      [](Profile& p) { ++p.layers[0].score[1]; },
      [](Profile& p) { ++p.layers[0].log_score[1]; },
      [](Profile& p) { ++p.layers[0].rank[1]; },
      [](Profile& p) { ++p.layers[0].activation[1]; },
      [](Profile& p) { p.layers[0].peak[1] += 1; },
      [](Profile& p) { ++p.layers[0].top_ranks[1]; },
      [](Profile& p) { ++p.layers[0].group_score[1]; },
      [](Profile& p) { p.layers.push_back(p.layers[0]); },
  };
  for (const auto& change : changes) {
    Profile other = profile;
    EXPECT_TRUE(other == profile);
    change(other);
    EXPECT_FALSE(other == profile);
  }
}

// Cus-Prun's set by its definition: in the bottom sigma share of the layer in every document.
std::set<size_t> StrictSet(const std::vector<std::vector<uint16_t>>& ranks, double sigma) {
  std::set<size_t> set;
  for (size_t k = 0; k < kChannels; ++k) {
    const bool everywhere = std::all_of(ranks.begin(), ranks.end(), [&](const auto& document) {
      return document[k] / static_cast<double>(kChannels) < sigma;
    });
    if (everywhere) set.insert(k);
  }
  return set;
}

TEST(TopRanks, GiveTheStrictSetForEverySigma) {
  const auto documents = MakeDocuments(50, 1, kChannels, 21);
  const Profile profile = ProfileOf(documents, 1, kChannels);
  const auto ranks = AllRanks(documents, 0);
  std::mt19937_64 random(1);
  std::vector<double> sigmas = {0.0, 0.25, 0.5, 1.0 / kChannels, 60.0 / kChannels, 1.0};
  for (int i = 0; i < 50; ++i) sigmas.push_back(std::uniform_real_distribution<>(0.7, 1)(random));
  size_t largest = 0;
  for (const double sigma : sigmas) {
    std::set<size_t> from_profile;
    for (size_t k = 0; k < kChannels; ++k) {
      const uint16_t max_rank = profile.layers[0].top_ranks[k * kTopRanks];
      if (max_rank / static_cast<double>(kChannels) < sigma) from_profile.insert(k);
    }
    EXPECT_EQ(from_profile, StrictSet(ranks, sigma)) << sigma;
    if (sigma < 1) largest = std::max(largest, from_profile.size());
  }
  EXPECT_GT(largest, 0u);  // the sets were not all empty
}

TEST(TopRanks, GiveExactQuantilesOfTheKeptTail) {
  constexpr int64_t kCount = 100;
  const auto documents = MakeDocuments(kCount, 1, kChannels, 22);
  const Profile profile = ProfileOf(documents, 1, kChannels);
  const auto ranks = AllRanks(documents, 0);
  for (int64_t i = kCount - kTopRanks + 1; i <= kCount; ++i) {  // ceil(q N)
    for (size_t k = 0; k < kChannels; ++k) {
      std::vector<uint16_t> sorted;
      for (const auto& document : ranks) sorted.push_back(document[k]);
      std::sort(sorted.begin(), sorted.end());
      EXPECT_EQ(profile.layers[0].top_ranks[k * kTopRanks + static_cast<size_t>(kCount - i)],
                sorted[static_cast<size_t>(i - 1)]);
    }
  }
}

}  // namespace
}  // namespace secateur
