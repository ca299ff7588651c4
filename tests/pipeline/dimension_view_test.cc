#include "server/pipeline/dimension_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
