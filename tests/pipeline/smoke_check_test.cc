#include "server/pipeline/smoke_check.h"

#include <cmath>
#include <set>
#include <string>

#include "server/artifact/manifest.h"
#include "server/pipeline/build_expert.h"
#include "tests/pipeline/fixture.h"
#include "tests/pipeline/tiny_resident.h"

namespace secateur {
namespace {

using testing::HasSubstr;

class SmokeCheckTest : public testing::Test {
 protected:
  SmokeCheckTest() {
    corpus_ = stores_.Add({{"language", "en"}}, 6, "english").id();
    for (int32_t id = 1; id < 40; ++id) sample_.ids.push_back(3 * id);
    sample_.offsets = {0, 19, 39};
  }

  // The base as its own expert: `nats` a token are said of it.
  absl::StatusOr<SmokeResult> Check(double nats) {
    const auto expert = OpenedExpert::Open(*model_, tiny_.folder.path());
    EXPECT_OK(expert);
    return SmokeCheck(*model_, **expert, corpus_, sample_, nats, stores_.all(), context_);
  }
  // The base's own nats a token on the sample.
  double BaseNats() { return -std::log(Check(0)->perplexity_ratio); }

  const TinyResident tiny_;
  const std::shared_ptr<ResidentModel> model_ = tiny_.model;
  TestStores stores_;
  std::string corpus_;
  PackedBatch sample_;
  RunContext context_;
};

TEST_F(SmokeCheckTest, FindsTheBaseEqualToItself) {
  ASSERT_OK_AND_ASSIGN(const SmokeResult found, Check(BaseNats()));
  EXPECT_NEAR(found.perplexity_ratio, 1, 1e-9);
  EXPECT_EQ(found.base_repetition_rate, found.expert_repetition_rate);
  EXPECT_GE(found.base_repetition_rate, 0);
  EXPECT_LT(found.base_repetition_rate, 1);
  EXPECT_GT(found.generated_tokens, 0);
  EXPECT_LE(found.generated_tokens, 4 * 24);
}

TEST_F(SmokeCheckTest, AsksTheBaseOnceForEachText) {
  const auto generated = [this] {
    int reports = 0;
    RunContext context([&](const Progress& progress) { reports += progress.phase == "generate"; });
    const auto expert = OpenedExpert::Open(*model_, tiny_.folder.path());
    EXPECT_OK(expert);
    const auto found = SmokeCheck(*model_, **expert, corpus_, sample_, 1, stores_.all(), context);
    EXPECT_OK(found);
    return std::pair(reports, found->perplexity_ratio);
  };
  const auto [first, ratio] = generated();
  EXPECT_EQ(generated(), std::pair(first / 2, ratio));
  sample_.ids.back() += 1;  // other text
  EXPECT_EQ(generated().first, first);
  corpus_ = stores_.Add({{"language", "de"}}, 6, "german").id();  // other prompts
  EXPECT_EQ(generated().first, first);
  EXPECT_EQ(generated().first, first / 2);
}

TEST_F(SmokeCheckTest, MeasuresTheSampleAsTheBaseSeesIt) {
  ASSERT_OK_AND_ASSIGN(const at::Tensor hidden, model_->transformer().Forward(sample_, context_));
  ASSERT_OK_AND_ASSIGN(const std::vector<double> nll,
                       TokenNll(model_->config(), model_->transformer().outer(), hidden, sample_));
  double nats = 0;
  for (const double value : nll) nats += value / 37;
  ASSERT_EQ(nll.size(), 37U);
  ASSERT_OK_AND_ASSIGN(const SmokeResult found, Check(nats + 0.5));
  EXPECT_NEAR(found.perplexity_ratio, std::exp(0.5), 1e-5);
}

TEST_F(SmokeCheckTest, RefusesNumbersThatAreNotFinite) {
  for (const double nats : {std::nan(""), HUGE_VAL, 1e6}) {
    EXPECT_THAT(Check(nats),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not a usable model")));
  }
}

TEST_F(SmokeCheckTest, IsPartOfTheManifestAndTheCard) {
  std::set<std::string> phases;
  RunContext context([&](const Progress& progress) { phases.insert(progress.phase); });
  ASSERT_OK_AND_ASSIGN(
      const StoredExpert expert,
      BuildExpert(*model_, RequestFor({{"language", {"en"}, 1}}), {}, stores_.all(), context));
  EXPECT_TRUE(phases.contains("generate"));
  ASSERT_OK_AND_ASSIGN(const v1::Manifest manifest, ParseManifest(expert.manifest_json));
  const v1::VerificationResult& result = manifest.verification();
  EXPECT_GT(result.perplexity_ratio(), 0);
  EXPECT_GT(result.generated_token_count(), 0);
  ASSERT_OK_AND_ASSIGN(const std::string card,
                       stores_.experts.ReadFile(expert, "README.md", 0, 1 << 20));
  EXPECT_THAT(card, HasSubstr("## Checks"));
}

}  // namespace
}  // namespace secateur
