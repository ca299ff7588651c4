#include "server/evaluate/score_sequences.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "server/evaluate/bits_per_byte.h"
#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;

TEST(BitsPerByte, IsTheNatsInBitsOverTheBytes) {
  EXPECT_EQ(BitsPerByte().value(), 0);
  BitsPerByte sum;
  sum.nats = 3 * std::log(2.0);
  sum.bytes = 4;
  EXPECT_DOUBLE_EQ(sum.value(), 0.75);
}

class ScoreSequences : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    model_ = LoadModel(folder_.path());
  }

  // Sequences of different lengths, and where each is scored from.
  std::vector<std::pair<std::vector<int32_t>, int64_t>> SomeSequences() const {
    std::mt19937 random(4);
    std::vector<std::pair<std::vector<int32_t>, int64_t>> sequences;
    for (const auto& [length, start] : {std::pair(30, 1), {1, 1}, {19, 7}, {25, 24}, {4, 4}}) {
      auto& [ids, from] = sequences.emplace_back();
      from = start;
      for (int i = 0; i < length; ++i) {
        ids.push_back(static_cast<int32_t>(
            random() % static_cast<uint64_t>(model_->config().vocabulary_size)));
      }
    }
    return sequences;
  }

  absl::StatusOr<std::vector<double>> Score(const LayeredModel& model, ScoreOptions options) {
    std::vector<double> scores;
    SequenceScorer scorer(model, std::move(options), context_);
    for (auto& [ids, start] : SomeSequences()) {
      RETURN_IF_ERROR(scorer.Add(ids, start, [&scores](double nats) {
        scores.push_back(nats);
        return absl::OkStatus();
      }));
    }
    RETURN_IF_ERROR(scorer.Finish());
    return scores;
  }

  const TempDir folder_;
  std::unique_ptr<Transformer> model_;
  RunContext context_;
};

// Brute force: each sequence alone, all logits, one token after the other in float64.
TEST_P(ScoreSequences, GivesTheNatsOfTheEndOfEachSequenceByItself) {
  std::vector<double> wanted;
  for (const auto& [ids, start] : SomeSequences()) {
    const PackedBatch alone{ids, {0, static_cast<int64_t>(ids.size())}};
    ASSERT_OK_AND_ASSIGN(const at::Tensor hidden, model_->Forward(alone, context_));
    ASSERT_OK_AND_ASSIGN(const at::Tensor logits, model_->Logits(hidden));
    double nats = 0;
    for (auto i = static_cast<size_t>(start); i < ids.size(); ++i) {
      double sum = 0;
      const float* row =
          logits.data_ptr<float>() + static_cast<int64_t>(i - 1) * model_->config().vocabulary_size;
      for (int64_t v = 0; v < model_->config().vocabulary_size; ++v)
        sum += std::exp(double{row[v]});
      nats += std::log(sum) - row[ids[i]];
    }
    wanted.push_back(nats);
  }
  const LayeredModel models[] = {Resident(*model_),
                                 Streamed(model_->folder(), model_->outer(), model_->device())};
  for (const LayeredModel& model : models) {
    for (const int64_t block_tokens : {1, 40, 1'000}) {
      ASSERT_OK_AND_ASSIGN(const std::vector<double> scores,
                           Score(model, {.block_tokens = block_tokens, .turn = {}}));
      ASSERT_EQ(scores.size(), wanted.size());
      for (size_t i = 0; i < scores.size(); ++i) {
        EXPECT_NEAR(scores[i], wanted[i], 1e-5 * wanted[i]) << i << ", blocks of " << block_tokens;
      }
    }
  }
}

TEST_P(ScoreSequences, TakesATurnForAllThatNeedsTheDevice) {
  int turns = 0, inside = 0;
  LayeredModel model = Resident(*model_);
  const auto layer = model.layer;
  model.layer = [&](int64_t index) {
    EXPECT_EQ(inside, 0) << "weights are read outside a turn";
    return layer(index);
  };
  const ScoreOptions options{.block_tokens = 40,
                             .turn = [&](const std::function<absl::Status()>& work) {
                               ++turns;
                               ++inside;
                               absl::Status done = work();
                               --inside;
                               return done;
                             }};
  ASSERT_OK(Score(model, options));
  // Three blocks: the embedding, each layer, the likelihoods.
  EXPECT_EQ(turns, 3 * (static_cast<int>(model_->config().num_layers) + 2));
  EXPECT_THAT(Score(model, {.block_tokens = 40,
                            .turn = [](const auto&) { return absl::CancelledError("no turn"); }}),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_P(ScoreSequences, RefusesWhatIsNotFinite) {
  LayeredModel model = Resident(*model_);
  const auto layer = model.layer;
  model.layer = [&](int64_t index) -> absl::StatusOr<LayerWeights> {
    ASSIGN_OR_RETURN(LayerWeights weights, layer(index));
    const c10::InferenceMode inference;
    weights.down.weight =
        at::full_like(weights.down.weight, std::numeric_limits<double>::quiet_NaN());
    return weights;
  };
  EXPECT_THAT(Score(model, {}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("29 tokens")));
}

TEST_P(ScoreSequences, RefusesSequencesThatCannotBeScored) {
  const LayeredModel model = Resident(*model_);
  SequenceScorer scorer(model, {}, context_);
  const auto done = [](double) { return absl::OkStatus(); };
  EXPECT_THAT(scorer.Add({}, 1, done), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(scorer.Add({1, 2}, 0, done), StatusIs(absl::StatusCode::kInvalidArgument));
}

INSTANTIATE_TEST_SUITE_P(Tiny, ScoreSequences, testing::Values("llama_mha", "llama_gqa", "gemma3"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace secateur
