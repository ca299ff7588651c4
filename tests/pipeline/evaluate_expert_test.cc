#include "server/pipeline/evaluate_expert.h"

#include <algorithm>
#include <memory>

#include "server/artifact/manifest.h"
#include "server/model/compute_threads.h"
#include "server/pipeline/build_expert.h"
#include "server/pipeline/build_profile.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

std::shared_ptr<ResidentModel> LoadTiny(const std::string& folder, uint64_t seed) {
  TinyModel tiny = FindTinyModel("llama_gqa");
  tiny.seed = seed;
  EXPECT_OK(WriteTinyModel(tiny, folder));
  const auto opened = ModelFolder::Open(folder);
  EXPECT_OK(opened);
  RunContext context;
  auto model = ResidentModel::Load("tiny", *opened, Device{}, context);
  EXPECT_OK(model);
  return *std::move(model);
}

class EvaluateExpertTest : public testing::Test {
 protected:
  EvaluateExpertTest() {
    SetComputeThreads(1);  // tests share the machine
    model_ = LoadTiny(folder_.path(), 1);
    stores_.Add({{"language", "en"}}, 4, "english");
    for (const auto& [theme, documents] : {std::pair("held out", 3), {"apart", 2}}) {
      request_.corpora.push_back(
          stores_.Add({{"language", "en"}}, documents, theme, CorpusPurpose::kEvaluation).id());
    }
    RunContext context;
    const auto expert =
        BuildExpert(*model_, RequestFor({{"language", {"en"}, 1}}), {}, stores_.all(), context);
    EXPECT_OK(expert);
    if (expert.ok()) expert_ = *expert;
  }

  const TempDir folder_;
  std::shared_ptr<ResidentModel> model_;
  TestStores stores_;
  StoredExpert expert_;
  EvaluationRequest request_;
};

TEST_F(EvaluateExpertTest, CountsDocumentsOfAllCorporaForBaseAndExpert) {
  std::vector<int64_t> done;
  RunContext context([&](const Progress& progress) {
    if (progress.phase != "evaluate") return;
    EXPECT_EQ(progress.total, 2 * (3 + 2));
    done.push_back(progress.done);
  });
  ASSERT_OK_AND_ASSIGN(const auto results,
                       EvaluateExpert(*model_, expert_, request_, stores_.all(), context));
  ASSERT_THAT(results, SizeIs(2));
  EXPECT_EQ(results[0].corpus(), "corpora/" + request_.corpora[0]);
  EXPECT_EQ(results[0].document_count(), 3);
  EXPECT_GT(results[0].expert_bits_per_byte(), 0);
  EXPECT_NE(results[0].expert_bits_per_byte(), results[0].base_bits_per_byte());
  EXPECT_EQ(results[1].document_count(), 2);
  EXPECT_THAT(done, SizeIs(10));
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 10);
}

TEST_F(EvaluateExpertTest, TellsHowMuchOfTheTextTheExpertWasMadeFrom) {
  RunContext context;
  // Texts of the fixture are of one pattern; their theme stands at both ends.
  request_.corpora = {
      stores_.Add({{"domain", "copied"}}, 2, "english", CorpusPurpose::kEvaluation).id()};
  ASSERT_OK_AND_ASSIGN(auto results,
                       EvaluateExpert(*model_, expert_, request_, stores_.all(), context));
  ASSERT_TRUE(results[0].has_overlap());
  EXPECT_EQ(results[0].overlap(), 1);  // the first two of four
  request_.corpora = {stores_
                          .Add({{"domain", "new"}}, 1,
                               "an altogether different theme of more words",
                               CorpusPurpose::kEvaluation)
                          .id()};
  ASSERT_OK_AND_ASSIGN(results, EvaluateExpert(*model_, expert_, request_, stores_.all(), context));
  EXPECT_GT(results[0].overlap(), 0);  // "is what the text number 0 is on;"
  EXPECT_LT(results[0].overlap(), 0.5);
  // What is not there any more cannot be compared with.
  for (const CorpusInfo& corpus :
       stores_.corpora.List({.labels = {}, .purpose = CorpusPurpose::kCalibration})) {
    ASSERT_OK(stores_.corpora.Delete(corpus.id()));
  }
  ASSERT_OK_AND_ASSIGN(results, EvaluateExpert(*model_, expert_, request_, stores_.all(), context));
  EXPECT_FALSE(results[0].has_overlap());
}

// It is in the mask, so whoever is judged on it has seen it: while it is made, and later.
TEST_F(EvaluateExpertTest, CountsGeneralTextAmongWhatTheExpertWasMadeFrom) {
  RunContext context;
  const CorpusInfo general = stores_.Add({{"text", "all"}}, 3, "1 2 3 4 5 6 7 8 9 10");
  ASSERT_OK(BuildProfiles(*model_, {general}, {}, stores_.all(), context));
  const CorpusInfo copied = stores_.Add({}, 2, "1 2 3 4 5 6 7 8 9 10", CorpusPurpose::kEvaluation);
  ExpertRequest request = RequestFor({{"language", {"en"}, 1}});
  request.evaluation_corpora = {copied.id()};
  request_.corpora = request.evaluation_corpora;
  for (const double weight : {0.0, 0.5}) {
    request.general_weight = weight;
    ASSERT_OK_AND_ASSIGN(expert_, BuildExpert(*model_, request, {}, stores_.all(), context));
    ASSERT_OK_AND_ASSIGN(const v1::Manifest manifest, ParseManifest(expert_.manifest_json));
    ASSERT_OK_AND_ASSIGN(const auto later,
                         EvaluateExpert(*model_, expert_, request_, stores_.all(), context));
    ASSERT_THAT(manifest.evaluations(), SizeIs(1));
    EXPECT_EQ(manifest.evaluations(0).overlap(), later[0].overlap()) << weight;
    EXPECT_EQ(later[0].overlap() == 1, weight > 0) << later[0].overlap();
  }
}

TEST_F(EvaluateExpertTest, RefusesAModelThatIsNotTheBase) {
  const TempDir folder;
  const auto other = LoadTiny(folder.path(), 2);
  EXPECT_OK(CheckIsBaseOf(*model_, expert_));
  RunContext context;
  EXPECT_THAT(EvaluateExpert(*other, expert_, request_, stores_.all(), context),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("SHA-256")));
}

}  // namespace
}  // namespace secateur
