#include "server/pipeline/resolve_sources.h"

#include <algorithm>
#include <numeric>

#include "server/base/errors.h"
#include "tests/pipeline/fixture.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

std::vector<std::string> IdsOf(const std::vector<CorpusInfo>& corpora) {
  std::vector<std::string> ids;
  for (const CorpusInfo& corpus : corpora) ids.push_back(corpus.id());
  std::sort(ids.begin(), ids.end());
  return ids;
}
std::vector<std::string> Sorted(std::vector<std::string> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

class ResolveSourcesTest : public testing::Test {
 protected:
  TestStores stores_;
  const CorpusInfo en_law_ = stores_.Add({{"language", "en"}, {"domain", "law"}}, 20, "a");
  const CorpusInfo en_ = stores_.Add({{"language", "en"}}, 3, "b");
  const CorpusInfo de_law_ = stores_.Add({{"language", "de"}, {"domain", "law"}}, 5, "c");
  const CorpusInfo de_ = stores_.Add({{"language", "de"}}, 7, "d");
  const CorpusInfo held_out_ =
      stores_.Add({{"language", "en"}, {"domain", "law"}}, 90, "e", CorpusPurpose::kEvaluation);
  const std::vector<Selection> select_ = {{"domain", {"law"}, 1}, {"language", {"en"}, 3}};

  absl::StatusOr<ResolvedSources> Resolve(const ExpertRequest& request) {
    return ResolveSources(request, stores_.corpora);
  }
};

TEST_F(ResolveSourcesTest, TakesForCellTheCorporaThatCarryEveryLabel) {
  ASSERT_OK_AND_ASSIGN(const auto resolved, Resolve(RequestFor(select_, RelevanceSource::kCell)));
  EXPECT_EQ(resolved.source, RelevanceSource::kCell);
  ASSERT_THAT(resolved.views, SizeIs(1));
  EXPECT_EQ(resolved.views[0].weight, 1);
  EXPECT_THAT(IdsOf(resolved.corpora), ElementsAre(en_law_.id()));
  EXPECT_EQ(resolved.documents, 20);
  EXPECT_EQ(resolved.shared_corpora, 0);
}

TEST_F(ResolveSourcesTest, TakesForComposeAllCorporaOfEachDimensionWeighted) {
  ASSERT_OK_AND_ASSIGN(const auto resolved,
                       Resolve(RequestFor(select_, RelevanceSource::kCompose)));
  EXPECT_EQ(resolved.source, RelevanceSource::kCompose);
  ASSERT_THAT(resolved.views, SizeIs(2));
  EXPECT_EQ(IdsOf(resolved.views[0].corpora), Sorted({en_law_.id(), de_law_.id()}));
  EXPECT_EQ(IdsOf(resolved.views[1].corpora), Sorted({en_law_.id(), en_.id()}));
  EXPECT_DOUBLE_EQ(resolved.views[0].weight, 0.25);
  EXPECT_DOUBLE_EQ(resolved.views[1].weight, 0.75);
  EXPECT_EQ(resolved.shared_corpora, 1);
  EXPECT_EQ(resolved.documents, 28);  // the shared corpus once
  for (const ResolvedView& view : resolved.views) {
    EXPECT_TRUE(std::is_sorted(view.corpora.begin(), view.corpora.end(),
                               [](const auto& a, const auto& b) { return a.digest < b.digest; }));
  }
}

TEST_F(ResolveSourcesTest, CountsEachOfSeveralValuesWithEqualWeight) {
  ASSERT_OK_AND_ASSIGN(const auto resolved,
                       Resolve(RequestFor({{"domain", {"law"}, 1}, {"language", {"de", "en"}, 1}},
                                          RelevanceSource::kCompose)));
  ASSERT_THAT(resolved.views, SizeIs(3));
  EXPECT_DOUBLE_EQ(resolved.views[0].weight, 0.5);
  EXPECT_DOUBLE_EQ(resolved.views[1].weight, 0.25);
  EXPECT_DOUBLE_EQ(resolved.views[2].weight, 0.25);
  EXPECT_EQ(IdsOf(resolved.views[1].corpora), Sorted({de_law_.id(), de_.id()}));
  EXPECT_EQ(resolved.shared_corpora, 2);
}

TEST_F(ResolveSourcesTest, TakesForAutoTheCellFrom32DocumentsOnAndBlendsBelow) {
  ASSERT_OK_AND_ASSIGN(const auto few, Resolve(RequestFor(select_)));
  EXPECT_EQ(few.source, RelevanceSource::kBlend);
  EXPECT_THAT(few.reason, HasSubstr("20 documents"));
  stores_.Add({{"language", "en"}, {"domain", "law"}}, 11, "f");
  EXPECT_EQ(Resolve(RequestFor(select_))->source, RelevanceSource::kBlend);  // 31
  stores_.Add({{"language", "en"}, {"domain", "law"}}, 1, "g");
  ASSERT_OK_AND_ASSIGN(const auto enough, Resolve(RequestFor(select_)));
  EXPECT_EQ(enough.source, RelevanceSource::kCell);
  EXPECT_THAT(enough.corpora, SizeIs(3));
}

TEST_F(ResolveSourcesTest, NeverBlendsForThePublishedRule) {
  ExpertRequest request = RequestFor(select_);
  request.rule = Rule::kCusPrun;
  EXPECT_EQ(Resolve(request)->source, RelevanceSource::kCompose);
  stores_.Add({{"language", "en"}, {"domain", "law"}}, 12, "f");
  EXPECT_EQ(Resolve(request)->source, RelevanceSource::kCell);
}

TEST_F(ResolveSourcesTest, SaysWhichSourceAutoTookAndWhy) {
  const auto reason = [&](std::vector<Selection> select, Rule rule = Rule::kMean) {
    ExpertRequest request = RequestFor(std::move(select));
    request.rule = rule;
    const auto resolved = Resolve(request);
    EXPECT_OK(resolved);
    return resolved->reason;
  };
  const std::string few = "20 documents carry all selected labels, which is fewer than 32";
  EXPECT_EQ(reason(select_), few);
  EXPECT_EQ(reason(select_, Rule::kCusPrun), few + ", and CUS_PRUN has no weights to blend by");
  stores_.Add({{"language", "en"}, {"domain", "law"}}, 12, "f");
  for (const Rule rule : {Rule::kMean, Rule::kCusPrun}) {
    EXPECT_EQ(reason(select_, rule),
              "32 documents carry all selected labels, which is at least 32");
  }
  stores_.Add({{"domain", "art"}}, 50, "g");
  const std::vector<Selection> art = {{"domain", {"art"}, 1}, {"language", {"de"}, 1}};
  for (const Rule rule : {Rule::kMean, Rule::kCusPrun}) {
    EXPECT_EQ(reason(art, rule), "no document carries all selected labels");
  }
  stores_.Add({{"domain", "art"}, {"language", "de"}}, 1, "h");
  EXPECT_EQ(reason(art), "1 document carries all selected labels, which is fewer than 32");
  for (const RelevanceSource source :
       {RelevanceSource::kCell, RelevanceSource::kCompose, RelevanceSource::kBlend}) {
    EXPECT_EQ(Resolve(RequestFor(select_, source))->reason, "asked for");
  }
}

TEST_F(ResolveSourcesTest, BlendsTheCellByHowManyDocumentsItHas) {
  ASSERT_OK_AND_ASSIGN(const auto blended, Resolve(RequestFor(select_, RelevanceSource::kBlend)));
  ASSERT_OK_AND_ASSIGN(const auto composed,
                       Resolve(RequestFor(select_, RelevanceSource::kCompose)));
  ASSERT_THAT(blended.views, SizeIs(3));
  EXPECT_THAT(IdsOf(blended.views[0].corpora), ElementsAre(en_law_.id()));
  EXPECT_DOUBLE_EQ(blended.views[0].weight, 20.0 / (20 + 32));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(IdsOf(blended.views[i + 1].corpora), IdsOf(composed.views[i].corpora));
    EXPECT_DOUBLE_EQ(blended.views[i + 1].weight, composed.views[i].weight * 32 / (20 + 32));
  }
  EXPECT_EQ(IdsOf(blended.corpora), IdsOf(composed.corpora));
}

TEST_F(ResolveSourcesTest, NeverTakesEvaluationCorpora) {
  for (const RelevanceSource source : {RelevanceSource::kAuto, RelevanceSource::kCell,
                                       RelevanceSource::kCompose, RelevanceSource::kBlend}) {
    ASSERT_OK_AND_ASSIGN(const auto resolved, Resolve(RequestFor(select_, source)));
    EXPECT_THAT(IdsOf(resolved.corpora), testing::Not(testing::Contains(held_out_.id())));
  }
}

TEST_F(ResolveSourcesTest, NamesTheNearestValuesOfALabelThatNoCorpusCarries) {
  const absl::Status status = Resolve(RequestFor({{"language", {"eng"}, 1}})).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                               testing::AllOf(HasSubstr("language=eng"), HasSubstr("en, de"))));
  EXPECT_EQ(NotesOf(status).reason, "NO_CORPUS_FOR_LABEL");
  // One known value does not make up for another that is not.
  EXPECT_EQ(NotesOf(Resolve(RequestFor({{"language", {"en", "xx"}, 1}})).status()).reason,
            "NO_CORPUS_FOR_LABEL");
  EXPECT_THAT(Resolve(RequestFor({{"task", {"qa"}, 1}})),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("task label at all")));
}

TEST_F(ResolveSourcesTest, RefusesACellThatNoCorpusIsIn) {
  stores_.Add({{"domain", "art"}}, 50, "h");
  const std::vector<Selection> select = {{"domain", {"art"}, 1}, {"language", {"en"}, 1}};
  for (const RelevanceSource source : {RelevanceSource::kCell, RelevanceSource::kBlend}) {
    EXPECT_EQ(NotesOf(Resolve(RequestFor(select, source)).status()).reason, "NO_CORPUS_FOR_CELL");
  }
  ASSERT_OK_AND_ASSIGN(const auto resolved, Resolve(RequestFor(select)));
  EXPECT_EQ(resolved.source, RelevanceSource::kCompose);
}

TEST(NearestValues, AreRankedByEditDistanceAndAtMostFive) {
  std::vector<CorpusInfo> corpora;
  for (const char* value : {"law", "laws", "lawn", "art", "cooking", "medicine", "low", "law"}) {
    corpora.emplace_back().labels = {{"domain", value}};
  }
  corpora.emplace_back().labels = {{"language", "law"}};
  EXPECT_THAT(NearestValues("domain", "law", corpora),
              ElementsAre("law", "lawn", "laws", "low", "art"));
  EXPECT_THAT(NearestValues("task", "law", corpora), testing::IsEmpty());
}

}  // namespace
}  // namespace secateur
