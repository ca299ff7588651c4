#include "server/pipeline/dimension_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/numbers.h"
#include "server/base/errors.h"
#include "tests/pipeline/fixture.h"
#include "tests/profile/random_profile.h"

namespace secateur {
namespace {

using testing::HasSubstr;

constexpr int64_t kLayers = 2;
constexpr int64_t kChannels = 24;

class DimensionViewTest : public testing::Test {
 protected:
  ProfileInfo Put(const std::string& corpus, const Profile& profile) {
    ProfileKey key = AnyKey();
    key.corpus_digest = Sha256Of(corpus);
    auto info = stores_.profiles.Put(key, profile);
    EXPECT_OK(info);
    return *info;
  }

  TestStores stores_;
  const std::vector<RandomDocument> a_ = MakeDocuments(30, kLayers, kChannels, 1);
  const std::vector<RandomDocument> b_ = MakeDocuments(20, kLayers, kChannels, 2);
  const ProfileInfo info_a_ = Put("a", ProfileOf(a_, kLayers, kChannels));
  const ProfileInfo info_b_ = Put("b", ProfileOf(b_, kLayers, kChannels));
};

TEST_F(DimensionViewTest, KeepsViewsOfDifferentStatisticsApart) {
  ASSERT_OK_AND_ASSIGN(const auto relative, MergedView({&info_a_, &info_b_}, {}, stores_.all()));
  ASSERT_OK_AND_ASSIGN(
      const auto ranks,
      MergedView({&info_a_, &info_b_}, {.statistic = Statistic::kRank}, stores_.all()));
  EXPECT_NE(relative->layers[0].relevance, ranks->layers[0].relevance);
  ASSERT_OK_AND_ASSIGN(const auto again, MergedView({&info_a_, &info_b_}, {}, stores_.all()));
  EXPECT_EQ(relative, again) << "not from the cache";
}

// Not the larger of the two corpora's quantiles, but that of all their documents.
TEST_F(DimensionViewTest, TakesAQuantileOverTheDocumentsOfAllCorpora) {
  std::vector<RandomDocument> both = a_;
  both.insert(both.end(), b_.begin(), b_.end());
  const ViewOptions options{.quantile = 0.8};
  const RelevanceView expected = ViewOf(ProfileOf(both, kLayers, kChannels), options);
  ASSERT_OK_AND_ASSIGN(const auto merged, MergedView({&info_a_, &info_b_}, options, stores_.all()));
  for (size_t l = 0; l < kLayers; ++l) {
    EXPECT_EQ(merged->layers[l].max_rank, expected.layers[l].max_rank);
  }
  EXPECT_EQ(merged->documents, 50);
}

// Whatever the bound is rounded to in words: what the message asks for will do.
TEST_F(DimensionViewTest, NamesAQuantileThatWillDo) {
  for (const int64_t documents : {33, 37, 41, 59}) {
    const ProfileInfo info =
        Put(StrCat(documents, " documents"),
            ProfileOf(MakeDocuments(documents, kLayers, kChannels, 3), kLayers, kChannels));
    const auto refused = MergedView({&info}, {.quantile = 0.01}, stores_.all());
    ASSERT_FALSE(refused.ok());
    const std::string message(refused.status().message());
    double least = 0;
    ASSERT_TRUE(absl::SimpleAtod(message.substr(message.rfind(' ') + 1), &least)) << message;
    EXPECT_OK(MergedView({&info}, {.quantile = least}, stores_.all())) << message;
  }
}

// Quantiles that differ by less than six digits tell.
TEST_F(DimensionViewTest, KeepsViewsOfCloseQuantilesApart) {
  const ProfileInfo info =
      Put("33 documents", ProfileOf(MakeDocuments(33, kLayers, kChannels, 4), kLayers, kChannels));
  ASSERT_OK_AND_ASSIGN(const auto four,
                       MergedView({&info}, {.quantile = 0.1212119}, stores_.all()));
  ASSERT_OK_AND_ASSIGN(const auto five,
                       MergedView({&info}, {.quantile = 0.1212123}, stores_.all()));
  EXPECT_NE(four->layers[0].max_rank, five->layers[0].max_rank);
}

TEST_F(DimensionViewTest, RefusesAQuantileThatTheRanksDoNotReach) {
  const auto refused = MergedView({&info_a_, &info_b_}, {.quantile = 0.3}, stores_.all());
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("at least 0.38")));
  EXPECT_EQ(NotesOf(refused.status()).field, "spec.quantile");
  EXPECT_EQ(NotesOf(refused.status()).reason, "QUANTILE_NOT_KEPT");
  EXPECT_OK(MergedView({&info_a_, &info_b_}, {.quantile = 0.38}, stores_.all()));
  EXPECT_OK(MergedView({&info_a_}, {.quantile = 0.3}, stores_.all()));
}

}  // namespace
}  // namespace secateur
