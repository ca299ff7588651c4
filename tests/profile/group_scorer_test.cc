#include "server/profile/group_scorer.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <limits>

#include "server/profile/collector.h"
#include "tests/profile/random_profile.h"
#include "tests/profile/slow_attention.h"
#include "tests/profile/tiny_documents.h"

namespace secateur {
namespace {

using testing::Each;
using testing::HasSubstr;

void ExpectNear(const std::vector<double>& found, const std::vector<double>& expected,
                double relative) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t group = 0; group < found.size(); ++group) {
    EXPECT_GT(expected[group], 0);
    EXPECT_NEAR(found[group], expected[group], relative * expected[group]) << "group " << group;
  }
}

// Of one document of what is shown.
AttentionActivation Alone(const AttentionActivation& shown, int64_t begin, int64_t end) {
  AttentionActivation alone = shown;
  alone.heads = shown.heads.slice(0, begin, end).clone();
  alone.output = shown.output.slice(0, begin, end).clone();
  alone.residual = shown.residual.slice(0, begin, end).clone();
  return alone;
}

std::vector<double> SumOver(const Scores& documents) {
  std::vector<double> sums(documents[0].size());
  for (const std::vector<double>& scores : documents) {
    for (size_t group = 0; group < sums.size(); ++group) sums[group] += scores[group];
  }
  return sums;
}

class GroupScoring : public testing::TestWithParam<std::string> {
 protected:
  std::vector<double> Score(const std::vector<int64_t>& offsets,
                            const AttentionActivation& shown) const {
    return ScoreGroups(config_, model_->layer(shown.layer), offsets, shown).value();
  }
  // Longer than the windows of the tiny models, and one of a single token.
  const std::unique_ptr<Transformer> model_ = LoadTiny(GetParam());
  const ModelConfig& config_ = model_->config();
  const PackedBatch block_ = Pack(RandomDocuments({33, 1, 70}, 4));
  const std::vector<AttentionActivation> shown_ = Record(*model_, block_);
  const c10::InferenceMode inference_;
};

TEST_P(GroupScoring, IsTheRelativeChangeOfTheSublayerWithoutTheGroupsColumns) {
  for (const AttentionActivation& shown : shown_) {
    const Scores expected = SlowGroupScores(*model_, block_, shown.layer);
    for (size_t i = 0; i < expected.size(); ++i) {
      const int64_t begin = block_.offsets[i], end = block_.offsets[i + 1];
      ExpectNear(Score({0, end - begin}, Alone(shown, begin, end)), expected[i], 1e-4);
    }
    ExpectNear(Score(block_.offsets, shown), SumOver(expected), 1e-4);
  }
}

TEST_P(GroupScoring, IsTheSameInTheNarrowTypeOfADevice) {
  const AttentionActivation& shown = shown_[1];
  const auto rounded = [](const at::Tensor& x, at::ScalarType type) {
    return x.to(at::kBFloat16).to(type);
  };
  std::vector<std::vector<double>> scores;
  for (const auto type : {at::kBFloat16, at::kFloat}) {
    AttentionActivation narrow = shown;
    narrow.heads = rounded(shown.heads, type);
    narrow.output = rounded(shown.output, type);
    narrow.residual = rounded(shown.residual, type);
    LayerWeights weights = model_->layer(1);
    weights.output.weight = rounded(weights.output.weight, type);
    scores.push_back(ScoreGroups(config_, weights, block_.offsets, narrow).value());
  }
  ExpectNear(scores[0], scores[1], 1e-5);
}

TEST_P(GroupScoring, LeavesOutTokensThatNothingIsRelativeTo) {
  AttentionActivation shown = Alone(shown_[0], 0, 33);
  shown.residual.select(0, 32).zero_();
  std::vector<double> expected = Score({0, 32}, Alone(shown_[0], 0, 32));
  for (double& score : expected) score *= 32.0 / 33;
  ExpectNear(Score({0, 33}, shown), expected, 1e-5);
}

TEST_P(GroupScoring, RefusesWhatIsNotFiniteAndNamesTheGroup) {
  const int64_t width = config_.num_heads / config_.num_kv_heads * config_.head_dim;
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f}) {
    AttentionActivation shown = Alone(shown_[0], 0, 33);
    shown.heads.select(1, width + 3).fill_(value);
    EXPECT_THAT(ScoreGroups(config_, model_->layer(0), std::vector<int64_t>{0, 33}, shown),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("KV head group 1")));
  }
}

TEST_P(GroupScoring, IsPartOfEveryProfile) {
  for (const bool attention : {false, true}) {
    const auto collector = ProfileCollector::Create(*model_, {.attention = attention}).value();
    RunContext context;
    ASSERT_OK(collector->Add(block_, context));
    for (const AttentionActivation& shown : shown_) {
      const std::vector<double> scores = Score(block_.offsets, shown);
      const std::vector<uint64_t>& found =
          collector->profile().layers[static_cast<size_t>(shown.layer)].group_score;
      ASSERT_EQ(found.size(), scores.size());
      for (size_t group = 0; group < scores.size(); ++group) {
        EXPECT_EQ(found[group], static_cast<uint64_t>(std::llround(scores[group] / kScoreUnit)));
      }
    }
  }
}

TEST_P(GroupScoring, AddsUpToTheSameBytesForAnySplitOfBlocks) {
  std::vector<PackedBatch> blocks;
  for (uint64_t i = 0; i < 5; ++i) blocks.push_back(Pack(RandomDocuments({20, 33, 5}, i)));
  const auto collect = [&](size_t begin, size_t end) {
    const auto collector = ProfileCollector::Create(*model_).value();
    RunContext context;
    for (size_t i = begin; i < end; ++i) EXPECT_OK(collector->Add(blocks[i], context));
    return collector->profile();
  };
  const std::string expected = FileOf(collect(0, 5));
  for (size_t split = 1; split < 5; ++split) {
    Profile merged = collect(split, 5);
    ASSERT_OK(merged.Merge(collect(0, split)));
    EXPECT_EQ(FileOf(merged), expected) << split;
  }
}

std::vector<std::string> ModelsOfSeveralGroups() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) {
    if (model.config["num_key_value_heads"] > 1) names.push_back(model.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(EachModel, GroupScoring, testing::ValuesIn(ModelsOfSeveralGroups()),
                         [](const auto& name) { return name.param; });

TEST(GroupScores, AreZerosInAModelOfOneKvHead) {
  const auto model = LoadTiny("gemma3");
  ASSERT_EQ(model->config().num_kv_heads, 1);
  const auto collector = ProfileCollector::Create(*model).value();
  RunContext context;
  ASSERT_OK(collector->Add(Pack(RandomDocuments({20, 5}, 1)), context));
  for (const LayerStatistics& layer : collector->profile().layers) {
    EXPECT_EQ(layer.group_score.size(), 1U);
    EXPECT_THAT(layer.group_score, Each(0U));
  }
}

}  // namespace
}  // namespace secateur
