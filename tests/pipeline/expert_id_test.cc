// The id of an expert is that of its resolved request, however it was asked for.
#include "server/artifact/manifest.h"
#include "server/pipeline/resolved_request.h"

#include <functional>
#include <set>

#include "tests/pipeline/fixture.h"

namespace secateur {
namespace {

class ExpertIdTest : public testing::Test {
 protected:
  std::string IdOf(const ExpertRequest& request, int64_t width = 96,
                   const std::string& base = "base", int64_t groups = 2) {
    const auto sources = ResolveSources(request, stores_.corpora);
    EXPECT_OK(sources);
    const Size size = {.vocabulary = 272, .kv_head_groups = groups};
    return ExpertIdOf(ResolveRequest(request, *sources, Width{width}, size, 2, Sha256Of(base)));
  }

  TestStores stores_;
  const CorpusInfo a_ = stores_.Add({{"language", "en"}, {"domain", "law"}}, 40, "a");
  const CorpusInfo b_ = stores_.Add({{"language", "en"}}, 3, "b");
  const CorpusInfo c_ = stores_.Add({{"domain", "law"}}, 3, "c");
  const ExpertRequest request_ =
      RequestFor({{"domain", {"law"}, 1}, {"language", {"en"}, 1}}, RelevanceSource::kCompose);
};

TEST_F(ExpertIdTest, IsTheSameForRequestsThatComeToTheSame) {
  const std::string id = IdOf(request_);
  EXPECT_EQ(id.size(), 41U);
  EXPECT_EQ(id[0], 'e');
  EXPECT_EQ(IdOf(request_), id);
  ExpertRequest same = request_;
  same.budget = Budget(Width{96});  // the width is what counts
  same.alignment = 8;
  EXPECT_EQ(IdOf(same), id);
  same.select[0].weight = same.select[1].weight = 7;  // equal shares
  EXPECT_EQ(IdOf(same), id);
  same.kv_head_groups = true;  // all of which stay
  EXPECT_EQ(IdOf(same), id);
  EXPECT_NE(IdOf(same, 96, "base", 1), id);
  stores_.Add({{"language", "de"}}, 3, "another label");
  stores_.Add({{"language", "en"}}, 3, "held out", CorpusPurpose::kEvaluation);
  EXPECT_EQ(IdOf(request_), id);
  // AUTO that comes to the cell is the cell.
  ExpertRequest cell = request_, automatic = request_;
  cell.source = RelevanceSource::kCell;
  automatic.source = RelevanceSource::kAuto;
  EXPECT_EQ(IdOf(automatic), IdOf(cell));
  automatic.select[0].weight = 5;  // no weights in a cell
  EXPECT_EQ(IdOf(automatic), IdOf(cell));
}

TEST_F(ExpertIdTest, ChangesWithAllThatDecidesTheBytes) {
  std::set<std::string> ids = {IdOf(request_)};
  const auto expect_new = [&ids](const std::string& id) { EXPECT_TRUE(ids.insert(id).second); };
  expect_new(IdOf(request_, 64));
  expect_new(IdOf(request_, 96, "another base"));
  for (const auto& change : std::vector<std::function<void(ExpertRequest&)>>{
           [](ExpertRequest& r) {
             r.second_order = true;
             r.compensation = Compensation::kLeastSquares;
           },
           [](ExpertRequest& r) { r.compensation = Compensation::kSequential; },
           [](ExpertRequest& r) { r.compensation = Compensation::kBias; },
           [](ExpertRequest& r) { r.view.statistic = Statistic::kPaper; },
           [](ExpertRequest& r) { r.view.statistic = Statistic::kLogRelative; },
           [](ExpertRequest& r) { r.view.statistic = Statistic::kRank; },
           [](ExpertRequest& r) { r.compensation = Compensation::kLeastSquares; },
           [](ExpertRequest& r) { r.shape = Shape::kMasked; },
           [](ExpertRequest& r) { r.general_weight = 0.1; },
           [](ExpertRequest& r) { r.source = RelevanceSource::kBlend; }}) {
    ExpertRequest changed = request_;
    change(changed);
    expect_new(IdOf(changed));
  }
  ExpertRequest other = request_;
  other.source = RelevanceSource::kCell;
  expect_new(IdOf(other));
  other = request_;
  other.rule = Rule::kCusPrun;
  expect_new(IdOf(other));
  other.view.quantile = 0.9;
  expect_new(IdOf(other));
  other = request_;
  other.select[0].weight = 2;
  expect_new(IdOf(other));
  other = request_;
  other.max_document_tokens = 256;
  expect_new(IdOf(other));
  other = request_;
  other.evaluation_corpora = {a_.id()};
  expect_new(IdOf(other));
  other = request_;
  other.select.pop_back();
  expect_new(IdOf(other));
  stores_.Add({{"language", "en"}}, 1, "a new corpus under a label");
  expect_new(IdOf(request_));
  ASSERT_OK(stores_.corpora.UpdateLabels(c_.id(), {{"domain", "art"}}, std::nullopt));
  expect_new(IdOf(request_));
}

}  // namespace
}  // namespace secateur
