#include "server/evaluate/generate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>

#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class ContinueGreedilyTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    model_ = LoadModel(folder_.path());
  }

  // One prompt at a time, all logits, in the way of Transformer.
  std::vector<int32_t> BruteForce(std::vector<int32_t> ids, int new_tokens) {
    const size_t prompt = ids.size();
    for (int step = 0; step < new_tokens; ++step) {
      const PackedBatch batch{ids, {0, static_cast<int64_t>(ids.size())}};
      const auto hidden = model_->Forward(batch, context_);
      EXPECT_OK(hidden);
      const auto logits = model_->Logits(*hidden);
      EXPECT_OK(logits);
      const float* last = logits->const_data_ptr<float>() + (logits->size(0) - 1) * logits->size(1);
      ids.push_back(static_cast<int32_t>(std::max_element(last, last + logits->size(1)) - last));
    }
    return {ids.begin() + static_cast<ptrdiff_t>(prompt), ids.end()};
  }

  const TokenSequences prompts_ = {{270, 5, 6, 7}, {270}, {270, 100, 200, 1, 30, 45, 46}};
  const TempDir folder_;
  std::unique_ptr<Transformer> model_;
  RunContext context_;
};

TEST_P(ContinueGreedilyTest, TakesTheLikeliestTokenOfEachPromptAgainAndAgain) {
  TokenSequences wanted;
  for (const std::vector<int32_t>& prompt : prompts_) wanted.push_back(BruteForce(prompt, 10));
  const LayeredModel models[] = {Resident(*model_),
                                 Streamed(model_->folder(), model_->outer(), model_->device())};
  for (const LayeredModel& model : models) {
    EXPECT_THAT(ContinueGreedily(model, prompts_, {.new_tokens = 10}, context_),
                IsOkAndHolds(wanted));
  }
}

TEST_P(ContinueGreedilyTest, EndsAContinuationAtAnEndTokenAndGoesOnWithTheOthers) {
  ASSERT_OK_AND_ASSIGN(const TokenSequences free,
                       ContinueGreedily(Resident(*model_), prompts_, {.new_tokens = 8}, context_));
  const int32_t end = free[0][3];
  ASSERT_OK_AND_ASSIGN(
      const TokenSequences found,
      ContinueGreedily(Resident(*model_), prompts_, {.new_tokens = 8, .end_ids = {end}}, context_));
  for (size_t i = 0; i < prompts_.size(); ++i) {
    const std::vector<int32_t> wanted(free[i].begin(),
                                      std::find(free[i].begin(), free[i].end(), end));
    EXPECT_EQ(found[i], wanted);
  }
}

TEST_P(ContinueGreedilyTest, ReadsLayersOnceWhenTheyFitIntoMemory) {
  int reads = 0;
  LayeredModel model = Streamed(model_->folder(), model_->outer(), model_->device());
  const auto layer = model.layer;
  model.layer = [&](int64_t index) {
    ++reads;
    return layer(index);
  };
  const auto layers = static_cast<int>(model_->config().num_layers);
  ASSERT_OK(ContinueGreedily(model, prompts_, {.new_tokens = 5}, context_));
  EXPECT_EQ(reads, layers);
  reads = 0;
  const LayeredModel not_kept = Kept(model, 1000);
  for (int i = 0; i < 3; ++i) EXPECT_OK(not_kept.layer(0));
  EXPECT_EQ(reads, 3);
}

TEST_P(ContinueGreedilyTest, RefusesWhatIsNotFiniteAndStopsWhenCancelled) {
  LayeredModel model = Resident(*model_);
  const auto layer = model.layer;
  model.layer = [&](int64_t index) -> absl::StatusOr<LayerWeights> {
    ASSIGN_OR_RETURN(LayerWeights weights, layer(index));
    const c10::InferenceMode inference;
    weights.up.weight = at::full_like(weights.up.weight, std::numeric_limits<double>::infinity());
    return weights;
  };
  EXPECT_THAT(ContinueGreedily(model, prompts_, {}, context_),
              StatusIs(absl::StatusCode::kDataLoss, testing::HasSubstr("finite")));
  EXPECT_THAT(ContinueGreedily(Resident(*model_), {{}}, {}, context_),
              StatusIs(absl::StatusCode::kInvalidArgument));
  context_.Cancel();
  EXPECT_THAT(ContinueGreedily(Resident(*model_), prompts_, {}, context_),
              StatusIs(absl::StatusCode::kCancelled));
}

INSTANTIATE_TEST_SUITE_P(Tiny, ContinueGreedilyTest, testing::Values("llama_mha", "gemma3"),
                         [](const auto& family) { return family.param; });

TEST(RepetitionRate, IsTheShareOfRunsOfFourThatWereThereBefore) {
  EXPECT_EQ(RepetitionRate({}), 0);
  EXPECT_EQ(RepetitionRate({{1, 2, 3}, {}}), 0);
  EXPECT_EQ(RepetitionRate({{1, 2, 3, 4, 5, 6, 7, 8}}), 0);
  // 1111 five times, four of them again.
  EXPECT_DOUBLE_EQ(RepetitionRate({{1, 1, 1, 1, 1, 1, 1, 1}}), 4.0 / 5);
  // 1234 2341 3412 4123 1234: one again. The other continuation's 1234 is its first.
  EXPECT_DOUBLE_EQ(RepetitionRate({{1, 2, 3, 4, 1, 2, 3, 4}, {1, 2, 3, 4}}), 1.0 / 6);
}

}  // namespace
}  // namespace secateur
