// `general_weight`: general text beside the selection, in one more view.
#include <numeric>

#include "server/pipeline/build_profile.h"
#include "server/pipeline/plan_expert.h"
#include "tests/pipeline/fixture.h"
#include "tests/pipeline/tiny_resident.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class GeneralTextTest : public testing::Test {
 protected:
  GeneralTextTest() { Profile({english_, law_, other_}); }

  void Profile(const std::vector<CorpusInfo>& corpora) {
    RunContext context;
    EXPECT_OK(BuildProfiles(*tiny_.model, corpora, {}, stores_.all(), context));
  }

  ComposedRequest Compose(double general_weight, const ExpertRequest& request) {
    ExpertRequest weighted = request;
    weighted.general_weight = general_weight;
    const auto sources = ResolveSources(weighted, stores_.corpora);
    EXPECT_OK(sources);
    auto composed = ComposeRequest(*tiny_.model, weighted, *sources, stores_.all());
    EXPECT_OK(composed);
    return *std::move(composed);
  }
  ComposedRequest Compose(double general_weight) { return Compose(general_weight, request_); }

  std::vector<std::vector<int32_t>> Kept(const ComposedRequest& composed) {
    const auto planned = PlanSize(*tiny_.model, request_, composed, request_.budget);
    EXPECT_OK(planned);
    return planned->mask.kept;
  }

  static std::vector<std::string> IdsOf(const std::vector<CorpusInfo>& corpora) {
    std::vector<std::string> ids;
    for (const CorpusInfo& corpus : corpora) ids.push_back(corpus.id());
    return ids;
  }

  const TinyResident tiny_;
  TestStores stores_;
  const CorpusInfo english_ = stores_.Add({{"language", "en"}}, 6, "english");
  const CorpusInfo law_ = stores_.Add({{"domain", "law"}}, 5, "law");
  const CorpusInfo other_ = stores_.Add({{"text", "all"}}, 9, "12345 67890 + - * /");
  const CorpusInfo unprofiled_ = stores_.Add({{"text", "all"}}, 4, "unread");
  const CorpusInfo held_out_ =
      stores_.Add({{"text", "all"}}, 4, "held out", CorpusPurpose::kEvaluation);
  const ExpertRequest request_ =
      RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 3}}, RelevanceSource::kCompose);
};

TEST_F(GeneralTextTest, IsAllProfiledCalibrationTextInAViewOfItsOwnAfterTheOthers) {
  const ComposedRequest composed = Compose(0.5);
  EXPECT_TRUE(composed.sources.general);
  ASSERT_THAT(composed.sources.views, SizeIs(3));
  ASSERT_THAT(composed.views, SizeIs(3));
  EXPECT_THAT(IdsOf(composed.sources.views[2].corpora),
              UnorderedElementsAre(english_.id(), law_.id(), other_.id()));
  EXPECT_EQ(composed.views[2]->documents, 20);
  EXPECT_THAT(composed.profiles, SizeIs(3));
  // It is no part of the selection.
  EXPECT_THAT(IdsOf(composed.sources.corpora), UnorderedElementsAre(english_.id(), law_.id()));
  EXPECT_EQ(composed.sources.documents, 11);
}

TEST_F(GeneralTextTest, GrowsWithWhatIsProfiled) {
  Profile({unprofiled_});
  EXPECT_THAT(IdsOf(Compose(0.5).sources.views[2].corpora),
              UnorderedElementsAre(english_.id(), law_.id(), other_.id(), unprofiled_.id()));
}

TEST_F(GeneralTextTest, WeighsWhatIsAskedForBesideOneForTheWholeSelection) {
  for (const double weight : {0.1, 1.0, 100.0}) {
    const std::vector<ResolvedView> views = Compose(weight).sources.views;
    ASSERT_THAT(views, SizeIs(3)) << weight;
    EXPECT_DOUBLE_EQ(views[0].weight, 0.25 / (1 + weight));
    EXPECT_DOUBLE_EQ(views[1].weight, 0.75 / (1 + weight));
    EXPECT_DOUBLE_EQ(views[2].weight, weight / (1 + weight));
  }
}

TEST_F(GeneralTextTest, HasNoViewWithoutAWeight) {
  const ComposedRequest composed = Compose(0);
  EXPECT_FALSE(composed.sources.general);
  ASSERT_THAT(composed.sources.views, SizeIs(2));
  EXPECT_DOUBLE_EQ(composed.sources.views[0].weight, 0.25);
  EXPECT_DOUBLE_EQ(composed.sources.views[1].weight, 0.75);
}

// The relevance of each neuron is the weighted mean of the two.
TEST_F(GeneralTextTest, MovesTheMaskFromThatOfTheSelectionToItsOwn) {
  const auto selection = Kept(Compose(0));
  // Selected and without a weight of its own, all that is profiled is general text alone.
  for (const CorpusInfo& corpus : {english_, law_, other_}) {
    Labels labels = corpus.labels;
    labels["profiled"] = "yes";
    ASSERT_OK(stores_.corpora.UpdateLabels(corpus.id(), labels, std::nullopt));
  }
  const auto general =
      Kept(Compose(0, RequestFor({{"profiled", {"yes"}, 1}}, RelevanceSource::kCell)));
  ASSERT_NE(selection, general);

  const auto shared = [](const auto& a, const auto& b) {
    size_t count = 0;
    for (size_t l = 0; l < a.size(); ++l) {
      std::vector<int32_t> both;
      std::set_intersection(a[l].begin(), a[l].end(), b[l].begin(), b[l].end(),
                            std::back_inserter(both));
      count += both.size();
    }
    return count;
  };
  size_t before = shared(selection, general);
  std::vector<std::vector<std::vector<int32_t>>> masks = {selection};
  for (const double weight : {0.1, 1.0, 10.0, 1e9}) {
    masks.push_back(Kept(Compose(weight)));
    const size_t now = shared(masks.back(), general);
    EXPECT_GE(now, before) << weight;
    before = now;
  }
  EXPECT_NE(masks[1], selection);
  EXPECT_NE(masks[2], masks[1]);
  EXPECT_EQ(masks.back(), general);
}

}  // namespace
}  // namespace secateur
