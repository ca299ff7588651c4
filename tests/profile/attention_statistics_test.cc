#include "server/profile/attention_statistics.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "server/profile/dimension.h"
#include "tests/profile/random_profile.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kLayers = 2;
constexpr int64_t kChannels = 7;
constexpr AttentionHeads kHeads = {.heads = 4, .kv_heads = 2, .head_dim = 8};
constexpr int64_t kUnits = 32 + 16 + 8;  // outputs, values, pairs

// Of one document: the scores of each layer.
using Document = std::vector<AttentionScores>;

std::vector<Document> MakeAttention(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  const AttentionSets<int64_t> units = UnitsOf(kHeads);
  std::vector<Document> documents(static_cast<size_t>(count), Document(kLayers));
  for (Document& document : documents) {
    for (AttentionScores& scores : document) {
      EXPECT_OK(ForEachAttentionSet([&](std::string_view, auto set) {
        set(scores) = RandomScores(set(units), random);
        return absl::OkStatus();
      }));
    }
  }
  return documents;
}

// Of as many documents, with random statistics of neurons.
Profile ProfileWith(const std::vector<Document>& documents) {
  Profile profile = ProfileOf(MakeDocuments(std::ssize(documents), kLayers, kChannels, 3), kLayers,
                              kChannels, kHeads.kv_heads);
  profile.attention = AttentionProfile::Empty(kLayers, kHeads).value();
  for (const Document& document : documents) {
    for (size_t l = 0; l < kLayers; ++l) {
      EXPECT_OK(AddAttention(document[l], profile.attention.layers[l]));
    }
  }
  return profile;
}

std::vector<Document> Part(const std::vector<Document>& documents, size_t begin, size_t end) {
  return {documents.begin() + static_cast<ptrdiff_t>(begin),
          documents.begin() + static_cast<ptrdiff_t>(end)};
}

ProfileKey KeyWithAttention() {
  ProfileKey key = AnyKey();
  key.attention = true;
  return key;
}

// The number of units with a smaller (score, unit).
uint16_t RankOf(const std::vector<float>& scores, size_t unit) {
  uint16_t rank = 0;
  for (size_t j = 0; j < scores.size(); ++j) {
    if (std::pair(scores[j], j) < std::pair(scores[unit], unit)) ++rank;
  }
  return rank;
}

TEST(AddAttention, KeepsTheLargestRanksOfEachUnit) {
  const auto documents = MakeAttention(40, 1);  // more than are kept
  const Profile profile = ProfileWith(documents);
  for (size_t l = 0; l < kLayers; ++l) {
    EXPECT_OK(ForEachAttentionSet([&](std::string_view name, auto set) {
      const std::vector<uint16_t>& rows = set(profile.attention.layers[l]);
      for (size_t unit = 0; unit < rows.size() / kTopRanks; ++unit) {
        std::vector<uint16_t> ranks;
        for (const Document& document : documents) {
          ranks.push_back(RankOf(set(document[l]), unit));
        }
        std::sort(ranks.begin(), ranks.end(), std::greater<>());
        EXPECT_TRUE(std::equal(ranks.begin(), ranks.begin() + kTopRanks,
                               rows.begin() + static_cast<ptrdiff_t>(unit * kTopRanks)))
            << name << " " << unit;
      }
      return absl::OkStatus();
    }));
  }
}

TEST(AddAttention, RefusesWhatIsNoScoreAndChangesNothing) {
  AttentionProfile profile = AttentionProfile::Empty(1, kHeads).value();
  const AttentionProfile empty = profile;
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1.0F}) {
    AttentionScores scores = MakeAttention(1, 2)[0][0];
    scores.query_key[5] = value;
    EXPECT_THAT(AddAttention(scores, profile.layers[0]),
                StatusIs(absl::StatusCode::kDataLoss,
                         AllOf(HasSubstr("\"query_key\""), HasSubstr("unit 5"))));
    EXPECT_EQ(profile, empty);
  }
}

TEST(AttentionProfile, GivesTheBytesOfASinglePassForAnySplitInAnyOrder) {
  const auto documents = MakeAttention(80, 4);
  const AttentionProfile whole = ProfileWith(documents).attention;
  AttentionProfile merged = ProfileWith(Part(documents, 45, 80)).attention;
  ASSERT_OK(merged.Merge(ProfileWith(Part(documents, 0, 1)).attention));
  ASSERT_OK(merged.Merge(ProfileWith(Part(documents, 1, 45)).attention));
  EXPECT_EQ(merged, whole);
}

TEST(AttentionProfile, MergesOnlyWithItsLike) {
  const Profile with = ProfileWith(MakeAttention(2, 5));
  Profile without = with;
  without.attention = {};
  EXPECT_THAT(without.Merge(with),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one without")));
  EXPECT_EQ(without.documents, with.documents);
  Profile other = with;
  other.attention = AttentionProfile::Empty(kLayers, {4, 4, 8}).value();
  EXPECT_THAT(other.Merge(with),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4 KV heads of 8")));
}

TEST(AttentionProfile, RefusesHeadsThatItCannotHold) {
  for (const AttentionHeads& heads :
       {AttentionHeads{0, 1, 8}, {4, 0, 8}, {4, 3, 8}, {4, 2, 7}, {4, 2, 0}}) {
    EXPECT_THAT(AttentionProfile::Empty(1, heads), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_OK(AttentionProfile::Empty(1, {512, 8, 128}));
  EXPECT_THAT(AttentionProfile::Empty(1, {513, 1, 128}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("65536")));
}

TEST(ProfileFileWithAttention, ComesBackAsItWas) {
  const Profile profile = ProfileWith(MakeAttention(5, 6));
  const std::string bytes = FileOf(profile, KeyWithAttention());
  ASSERT_OK_AND_ASSIGN(const ProfileFile file, ReadProfile("x", bytes));
  EXPECT_TRUE(file.profile == profile);
  EXPECT_EQ(file.key.digest(), KeyWithAttention().digest());
  ASSERT_OK_AND_ASSIGN(const ProfileSummary summary,
                       ReadProfileSummary("x", bytes, static_cast<int64_t>(bytes.size())));
  EXPECT_EQ(summary.heads, kHeads);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  EXPECT_EQ(bytes.size(), 8 + header + kLayers * (124 * kChannels + 4 + 8 * kHeads.kv_heads) +
                              64 * kLayers * kUnits);
}

TEST(ProfileFileWithAttention, HasAKeyThatSaysSo) {
  const auto refused = [](const ProfileKey& key, const Profile& profile) {
    return WriteProfile(key, profile, [](std::string_view) { return absl::OkStatus(); });
  };
  Profile profile = ProfileWith(MakeAttention(1, 7));
  EXPECT_THAT(refused(AnyKey(), profile),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("opposite")));
  profile.attention = {};
  EXPECT_THAT(refused(KeyWithAttention(), profile),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("opposite")));
}

TEST(ProfileFileWithAttention, RefusesRanksThatNoDocumentsCanGive) {
  const std::string bytes = FileOf(ProfileWith(MakeAttention(5, 8)), KeyWithAttention());
  // Pairs come last: ranks of layer 1, pair 6 end one row before the file.
  const size_t row = bytes.size() - size_t{2} * kTopRanks * sizeof(uint16_t);
  const auto set = [&bytes](size_t at, uint16_t rank) {
    std::string spoilt = bytes;
    std::memcpy(&spoilt[at], &rank, sizeof rank);
    return spoilt;
  };
  for (const std::string& spoilt : {set(row, 8), set(row + 10, 1)}) {
    EXPECT_THAT(ReadProfile("x", spoilt),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("tensor \"query_key_ranks\", layer 1, unit 6")));
  }
}

TEST(ProfileFileWithAttention, RefusesHeadsThatItsTensorsDoNotHave) {
  const std::string good = FileOf(ProfileWith(MakeAttention(5, 9)), KeyWithAttention());
  const std::pair<std::string, std::string> cases[] = {
      {R"("kv_heads":"2")", R"("kv_heads":"3")"},
      {R"("kv_heads":"2")", R"("kv_heads":"4")"},
      {R"("head_dim":"8")", R"("head_dim":"7")"},
      {R"("head_dim":"8")", R"("head_dim":"6")"},
      {R"("query_heads":"4")", R"("query_heads":"8")"},
      {R"("kv_head_groups":"2")", R"("kv_head_groups":"4")"},
      {R"("kv_head_groups":"2")", R"("kv_head_groups":"1")"},
      {R"("query_heads":)", R"("query_headz":)"},
      {R"("kv_heads":)", R"("kv_headz":)"},
  };
  for (const auto& [from, to] : cases) {
    std::string bytes = good;
    ASSERT_NE(bytes.find(from), std::string::npos) << from;
    bytes.replace(bytes.find(from), from.size(), to);
    EXPECT_THAT(ReadProfile("x", bytes), StatusIs(absl::StatusCode::kInvalidArgument)) << to;
    EXPECT_THAT(ReadProfileSummary("x", bytes, static_cast<int64_t>(bytes.size())),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << to;
  }
}

TEST(ViewWithAttention, GivesTheLargestRanksOfAllCorporaIfAllHaveThem) {
  const auto documents = MakeAttention(9, 10);
  const RelevanceView a = ViewOf(ProfileWith(Part(documents, 0, 4)));
  const RelevanceView b = ViewOf(ProfileWith(Part(documents, 4, 9)));
  const Profile whole = ProfileWith(documents);
  ASSERT_OK_AND_ASSIGN(const RelevanceView merged, MergeViews({&a, &b}));
  EXPECT_EQ(merged.heads, kHeads);
  ASSERT_EQ(merged.attention.size(), static_cast<size_t>(kLayers));
  EXPECT_EQ(merged.attention, ViewOf(whole).attention);
  for (size_t unit = 0; unit < 8; ++unit) {
    EXPECT_EQ(merged.attention[1].query_key[unit],
              whole.attention.layers[1].query_key[unit * kTopRanks]);
  }
  RelevanceView bare = b;
  bare.heads = {};
  bare.attention.clear();
  EXPECT_EQ(merged.bytes() - MergeViews({&a, &bare})->bytes(), 2 * kLayers * kUnits);
  EXPECT_TRUE(MergeViews({&a, &bare})->attention.empty());
  EXPECT_TRUE(MergeViews({&bare, &a})->attention.empty());
}

}  // namespace
}  // namespace secateur
