#include "server/pipeline/plan_convergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "tests/profile/random_profile.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kLayers = 3;
constexpr int64_t kNeurons = 512;
constexpr int64_t kWidth = 384;

// How much more relevant one neuron is than another in the long run, and in one document: the
// standard deviations of logarithms.
struct Spread {
  float neurons = 0, documents = 0;
};

constexpr Spread kClear = {.neurons = 1, .documents = 0.1f};

std::vector<RandomDocument> Documents(int64_t count, Spread spread) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<float> neuron(0, spread.neurons), factor(0, spread.documents);
  std::vector<float> theme(kNeurons);
  for (float& score : theme) score = neuron(random);
  std::vector<RandomDocument> documents;
  for (int64_t i = 0; i < count; ++i) {
    documents.push_back(MakeDocument(kLayers, kNeurons, random));
    for (DocumentScores& scores : documents.back()) {
      scores.in_half = i % 2 == 0;
      scores.relative = theme;
      for (float& score : scores.relative) score *= factor(random);
      std::ranges::fill(scores.peak, 0.0f);  // nothing is protected
    }
  }
  return documents;
}

ComposedRequest Composed(const std::vector<RandomDocument>& documents, Rule rule = Rule::kMean) {
  const Profile profile = ProfileOf(documents, kLayers, kNeurons);
  ComposedRequest composed;
  composed.sources.views.resize(1);
  composed.profiles.resize(1);
  composed.profiles[0].documents = profile.documents;
  composed.sources.documents = profile.documents;
  composed.views.push_back(std::make_shared<const RelevanceView>(ViewOf(profile)));
  auto order = Compose(rule, {{composed.views[0].get(), 1}});
  EXPECT_OK(order);
  composed.order = *std::move(order);
  return composed;
}

std::optional<v1::Convergence> At(const ComposedRequest& composed, int64_t width = kWidth) {
  PlannedExpert planned;
  planned.size.width = width;
  const auto convergence = PlanConvergence(composed).At(planned);
  EXPECT_OK(convergence);
  return *convergence;
}

TEST(PlanConvergence, AsksForMoreOfEachLabelWhereThereIsNothingToCompare) {
  for (const int64_t count : {1, 2}) {
    std::vector<RandomDocument> documents = Documents(count, kClear);
    for (RandomDocument& document : documents) {
      for (DocumentScores& scores : document) scores.in_half = true;
    }
    const auto found = At(Composed(documents));
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->advice(),
              StrCat(count, count == 1 ? " document is" : " documents are",
                     " too few to tell how stable the choice of neurons is: upload more of each "
                     "selected label"));
    EXPECT_EQ(found->document_count(), count);
    EXPECT_EQ(found->split_half_agreement(), 0);
    EXPECT_EQ(found->agreement(), 0);
  }
}

TEST(PlanConvergence, CallsAChoiceChanceThatOneHalfDoesNotShareWithTheOther) {
  const auto found = At(Composed(Documents(12, {.neurons = 0, .documents = 1})));
  ASSERT_TRUE(found.has_value());
  EXPECT_LT(found->agreement(), 0.3);
  EXPECT_EQ(found->advice(),
            "the choice of neurons is mostly chance: upload many more than the 12 documents there "
            "are");
}

// General text tells how stable the choice is, but more of it would not be more of this kind.
TEST(PlanConvergence, AsksForMoreOfTheSelectionNotOfGeneralText) {
  ComposedRequest composed = Composed(Documents(12, {.neurons = 0, .documents = 1}));
  composed.profiles.push_back(composed.profiles[0]);
  composed.profiles[1].documents = 1000;
  const auto found = At(composed);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->document_count(), 1012);
  EXPECT_THAT(found->advice(), HasSubstr("many more than the 12 documents"));
}

TEST(PlanConvergence, HasNoAdviceWhereTheHalvesAgree) {
  const auto found = At(Composed(Documents(64, kClear)));
  ASSERT_TRUE(found.has_value());
  EXPECT_GE(found->agreement(), kEnoughAgreement);
  EXPECT_EQ(found->document_count(), 64);
  EXPECT_THAT(found->advice(), IsEmpty());
}

// As many more documents of the same kind as the advice says do bring the agreement there.
TEST(PlanConvergence, SaysAboutHowManyMoreDocumentsWouldBeEnough) {
  constexpr int64_t kDocuments = 16;
  for (const float noise : {0.25f, 0.7f}) {
    const Spread spread = {.neurons = 0.3f, .documents = noise};
    const auto few = At(Composed(Documents(kDocuments, spread)));
    ASSERT_TRUE(few.has_value());
    EXPECT_LT(few->agreement(), kEnoughAgreement);
    ASSERT_THAT(few->advice(),
                testing::MatchesRegex("about [0-9]+ more documents of this kind would bring the "
                                      "agreement to 0.80"));
    int64_t more = 0;
    const std::vector<std::string> words = absl::StrSplit(few->advice(), ' ');
    ASSERT_TRUE(absl::SimpleAtoi(words[1], &more));
    const auto enough = At(Composed(Documents(kDocuments + more, spread)));
    ASSERT_TRUE(enough.has_value());
    EXPECT_NEAR(enough->agreement(), kEnoughAgreement, 0.03) << more;
  }
}

TEST(PlanConvergence, HasNothingToSayOfRanksNorWhereNothingGoes) {
  const std::vector<RandomDocument> documents = Documents(12, kClear);
  EXPECT_FALSE(At(Composed(documents, Rule::kCusPrun)).has_value());
  EXPECT_FALSE(At(Composed(documents), kNeurons).has_value());
  EXPECT_FALSE(At(ComposedRequest{}).has_value());  // the vocabulary alone
}

}  // namespace
}  // namespace secateur
