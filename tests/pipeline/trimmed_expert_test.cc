// Experts with a trimmed vocabulary, from the request to files that are read back.
#include <atomic>
#include <future>
#include <vector>

#include <nlohmann/json.hpp>

#include "secateur/v1/manifest.pb.h"
#include "server/artifact/manifest.h"
#include "server/model/compute_threads.h"
#include "server/pipeline/build_expert.h"
#include "server/pipeline/evaluate_expert.h"
#include "server/storage/local_copy.h"
#include "tests/pipeline/fixture.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kRows = 832;

// A tiny model with pairs of letters in its vocabulary, most of which no text here has.
class TrimmedExpert : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    SetComputeThreads(1);  // tests share the machine
    TinyModel tiny = FindTinyModel(GetParam());
    tiny.config["vocab_size"] = kRows;
    ASSERT_OK(WriteTinyModel(tiny, folder_.path()));
    folder_.Write("merges.txt", "h e");
    ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(folder_.path()));
    RunContext context;
    ASSERT_OK_AND_ASSIGN(model_, ResidentModel::Load("tiny", folder, Device{}, context));
    stores_.Add({{"language", "en"}}, 40, "orange trees");
    held_out_ =
        stores_.Add({{"language", "en"}}, 5, "orange trees and plums", CorpusPurpose::kEvaluation)
            .id();
    request_.neurons = false;
    request_.vocabulary = true;
    request_.evaluation_corpora = {held_out_};
  }

  absl::StatusOr<StoredExpert> Build(const ExpertRequest& request) {
    RunContext context;
    return BuildExpert(*model_, request, {}, stores_.all(), context);
  }
  nlohmann::ordered_json Json(const StoredExpert& expert, const std::string& name) {
    const auto bytes = stores_.blobs.Read(expert.prefix + name, 0, 1 << 22);
    EXPECT_OK(bytes);
    return nlohmann::ordered_json::parse(*bytes);
  }
  static v1::Manifest ManifestOf(const StoredExpert& expert) {
    return *ParseManifest(expert.manifest_json);
  }

  const TempDir folder_;
  std::shared_ptr<ResidentModel> model_;
  TestStores stores_;
  std::string held_out_;
  ExpertRequest request_ = RequestFor({{"language", {"en"}, 1}});
};

TEST_P(TrimmedExpert, IsMadeWithoutAProfileFromTheVocabularyAlone) {
  ASSERT_OK_AND_ASSIGN(const StoredExpert expert, Build(request_));
  EXPECT_THAT(stores_.profiles.List(), testing::IsEmpty());
  const v1::Manifest manifest = ManifestOf(expert);
  const v1::Size& size = manifest.size();
  EXPECT_EQ(size.vocabulary_size() % 64, 0);
  EXPECT_LT(size.vocabulary_size(), kRows);
  EXPECT_EQ(size.width(), model_->config().intermediate_size);
  EXPECT_EQ(size.block_parameter_reduction(), 0);
  EXPECT_GT(size.parameter_reduction(), 0);
  EXPECT_EQ(manifest.base_size().vocabulary_size(), kRows);
  EXPECT_EQ(manifest.vocabulary().required_rows(), 258);  // bytes and two added tokens
  EXPECT_GT(manifest.vocabulary().text_rows(), manifest.vocabulary().required_rows());
  EXPECT_LE(manifest.vocabulary().text_rows(), size.vocabulary_size());
  EXPECT_LE(manifest.verification().max_logit_error(), 1e-4);

  const v1::ExpertSpec& spec = manifest.request().spec();
  ASSERT_EQ(spec.units_size(), 1);
  EXPECT_EQ(spec.units(0), v1::VOCABULARY);
  EXPECT_EQ(spec.vocabulary_size(), size.vocabulary_size());
  EXPECT_FALSE(spec.has_budget());
  EXPECT_EQ(spec.rule(), v1::RULE_UNSPECIFIED);
}

TEST_P(TrimmedExpert, HasFilesThatAgreeOnTheNewNumbers) {
  ASSERT_OK_AND_ASSIGN(const StoredExpert expert, Build(request_));
  const auto config = Json(expert, "config.json");
  const auto tokenizer = Json(expert, "tokenizer.json");
  const int64_t rows = ManifestOf(expert).size().vocabulary_size();
  EXPECT_EQ(config["vocab_size"], rows);
  EXPECT_EQ(config["intermediate_size"], model_->config().intermediate_size);
  const auto& vocabulary = tokenizer["model"]["vocab"];
  EXPECT_EQ(vocabulary.size(), static_cast<size_t>(rows));
  EXPECT_EQ(config["bos_token_id"], vocabulary["<|bos|>"]);
  const auto generation = Json(expert, "generation_config.json");
  EXPECT_EQ(generation["bos_token_id"], vocabulary["<|bos|>"]);
  EXPECT_EQ(generation["eos_token_id"], vocabulary["<|eos|>"]);
  std::vector<std::string> names;
  for (const ArtifactFile& file : expert.files) names.push_back(file.name);
  EXPECT_THAT(names, Not(Contains("merges.txt")));

  const RunContext context;
  ASSERT_OK_AND_ASSIGN(const LocalCopy local, LocalCopy::Of(stores_.blobs, expert.prefix, context));
  ASSERT_OK_AND_ASSIGN(const auto folder, ModelFolder::Open(local.path()));
  EXPECT_EQ(folder->config().first_token_id, vocabulary["<|bos|>"].get<int64_t>());
  EXPECT_EQ(folder->table()[0].shape[0], rows);
}

TEST_P(TrimmedExpert, IsMeasuredByItsOwnTokenizerOnTheSameBytes) {
  ASSERT_OK_AND_ASSIGN(const StoredExpert expert, Build(request_));
  ASSERT_EQ(ManifestOf(expert).evaluations_size(), 1);
  const v1::EvaluationResult result = ManifestOf(expert).evaluations(0);
  // "plums" has pairs that the calibration text has not: they fall apart.
  EXPECT_GT(result.expert_token_count(), result.token_count());
  EXPECT_GT(result.text_bytes(), 0);
  EXPECT_NE(result.expert_bits_per_byte(), result.base_bits_per_byte());
  EXPECT_TRUE(result.has_overlap());
  EXPECT_GT(result.overlap(), 0);
  // The same again from the published files.
  RunContext context;
  ASSERT_OK_AND_ASSIGN(const auto again,
                       EvaluateExpert(*model_, expert, {.corpora = {held_out_}, .calibration = {}},
                                      stores_.all(), context));
  EXPECT_EQ(again[0].expert_token_count(), result.expert_token_count());
  EXPECT_EQ(again[0].expert_bits_per_byte(), result.expert_bits_per_byte());
  EXPECT_EQ(again[0].overlap(), result.overlap());
}

TEST_P(TrimmedExpert, OfTheTextItIsForTakesNoMoreTokens) {
  const std::string same =
      stores_.Add({{"language", "en"}}, 20, "orange trees", CorpusPurpose::kEvaluation).id();
  request_.evaluation_corpora = {same};
  ASSERT_OK_AND_ASSIGN(const StoredExpert expert, Build(request_));
  const v1::EvaluationResult result = ManifestOf(expert).evaluations(0);
  EXPECT_EQ(result.expert_token_count(), result.token_count());
  // The same tokens with fewer rivals: likelier, if anything.
  EXPECT_LT(result.expert_bits_per_byte(), result.base_bits_per_byte());
}

TEST_P(TrimmedExpert, LosesNeuronsAsWell) {
  request_.neurons = true;
  request_.budget = Budget(NeuronRatio{0.25});
  ASSERT_OK_AND_ASSIGN(const StoredExpert both, Build(request_));
  const v1::Manifest manifest = ManifestOf(both);
  EXPECT_EQ(manifest.size().width(), 96);
  EXPECT_LT(manifest.size().vocabulary_size(), kRows);
  EXPECT_EQ(manifest.request().spec().units_size(), 2);
  request_.vocabulary = false;
  ASSERT_OK_AND_ASSIGN(const StoredExpert neurons, Build(request_));
  EXPECT_NE(neurons.id, both.id);
  EXPECT_NE(ManifestOf(neurons).mask_digest(), manifest.mask_digest());
  EXPECT_FALSE(ManifestOf(neurons).has_vocabulary());
}

TEST_P(TrimmedExpert, MakesUpForNeuronsThatGoByLeastSquares) {
  request_.neurons = true;
  request_.second_order = true;
  request_.compensation = Compensation::kLeastSquares;
  request_.budget = Budget(NeuronRatio{0.25});
  ASSERT_OK_AND_ASSIGN(const StoredExpert expert, Build(request_));
  EXPECT_LT(ManifestOf(expert).size().vocabulary_size(), kRows);
  EXPECT_TRUE(ManifestOf(expert).has_compensation());
}

TEST_P(TrimmedExpert, HasAsManyRowsAsAskedFor) {
  for (const int64_t asked : {320, 321, 640, 800}) {
    request_.vocabulary_size = asked;
    ASSERT_OK_AND_ASSIGN(const StoredExpert expert, Build(request_));
    EXPECT_EQ(ManifestOf(expert).size().vocabulary_size(), (asked + 63) / 64 * 64);
  }
  for (const int64_t asked : {1, 64, 256, 833}) {
    request_.vocabulary_size = asked;
    EXPECT_THAT(Build(request_), StatusIs(absl::StatusCode::kOutOfRange,
                                          testing::AllOf(HasSubstr("vocabulary_size"),
                                                         HasSubstr("320"), HasSubstr("832"))));
  }
}

TEST_P(TrimmedExpert, IsTheSameWhetherItsSizeWasAskedForOrFound) {
  ASSERT_OK_AND_ASSIGN(const StoredExpert found, Build(request_));
  request_.vocabulary_size = ManifestOf(found).size().vocabulary_size();
  ASSERT_OK_AND_ASSIGN(const auto known, FindExpert(*model_, request_, stores_.all()));
  ASSERT_TRUE(known.has_value());
  EXPECT_EQ(known->id, found.id);
}

TEST_P(TrimmedExpert, IsTheWholeOneWhenAllRowsAreAskedFor) {
  request_.vocabulary_size = kRows;
  ASSERT_OK_AND_ASSIGN(const StoredExpert expert, Build(request_));
  EXPECT_EQ(ManifestOf(expert).size().vocabulary_size(), kRows);
  EXPECT_EQ(ManifestOf(expert).evaluations(0).expert_bits_per_byte(),
            ManifestOf(expert).evaluations(0).base_bits_per_byte());
}

TEST_P(TrimmedExpert, IsNotFoundBeforeItsTextHasBeenLookedAt) {
  EXPECT_THAT(FindExpert(*model_, request_, stores_.all()),
              IsOkAndHolds(testing::Eq(std::nullopt)));
}

TEST_P(TrimmedExpert, IsPlannedFromTextThatIsTokenisedOnce) {
  int documents = 0, looked_at = 0;
  RunContext context([&](const Progress& progress) {
    documents += progress.phase == "tokenize" ? 1 : 0;
    looked_at += progress.phase == "expect" ? 1 : 0;
  });
  const std::vector<CorpusInfo> corpora = ResolveSources(request_, stores_.corpora).value().corpora;
  ASSERT_OK_AND_ASSIGN(const auto plan,
                       model_->vocabulary().Plan(corpora, stores_.corpora, context));
  EXPECT_EQ(documents, 40);
  EXPECT_GT(looked_at, 0);
  EXPECT_LE(looked_at, 32);
  const int before = looked_at;
  EXPECT_THAT(model_->vocabulary().Plan(corpora, stores_.corpora, context), IsOkAndHolds(plan));
  EXPECT_EQ(documents, 40);
  EXPECT_EQ(looked_at, before);
  EXPECT_EQ(plan->order.rows.size(), static_cast<size_t>(kRows));
  EXPECT_EQ(plan->SplitShare(kRows), 0);
  EXPECT_LE(plan->SplitShare(plan->rows), kMaxSplitShare);
  EXPECT_GT(plan->SplitShare(plan->order.required), kMaxSplitShare);
}

TEST_P(TrimmedExpert, IsPlannedOnceForAllWhoAskAtATime) {
  std::atomic<int> documents = 0;
  const std::vector<CorpusInfo> corpora = ResolveSources(request_, stores_.corpora).value().corpora;
  const auto plan = [&] {
    RunContext context(
        [&](const Progress& progress) { documents += progress.phase == "tokenize" ? 1 : 0; });
    return model_->vocabulary().Plan(corpora, stores_.corpora, context);
  };
  std::vector<std::future<absl::StatusOr<std::shared_ptr<const VocabularyPlan>>>> plans;
  for (int i = 0; i < 4; ++i) plans.push_back(std::async(std::launch::async, plan));
  ASSERT_OK_AND_ASSIGN(const auto first, plans[0].get());
  for (size_t i = 1; i < plans.size(); ++i) EXPECT_THAT(plans[i].get(), IsOkAndHolds(first));
  EXPECT_EQ(documents, 40);
}

TEST_P(TrimmedExpert, StopsWhenItIsCancelledWhileItsTextIsTokenised) {
  RunContext* running = nullptr;
  RunContext context([&](const Progress& progress) {
    if (progress.phase == "tokenize" && progress.done == 3) running->Cancel();
  });
  running = &context;
  EXPECT_THAT(BuildExpert(*model_, request_, {}, stores_.all(), context),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(stores_.Keys("experts/"), testing::IsEmpty());
}

// Tied and untied, both families.
INSTANTIATE_TEST_SUITE_P(Tiny, TrimmedExpert,
                         testing::Values("llama_gqa", "llama_mha", "gemma3", "gemma3_pattern"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace secateur
