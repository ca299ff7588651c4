#include "server/compensate/sequential.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "server/compensate/compensate.h"
#include "server/compensate/cut_layer.h"
#include "server/compensate/gram.h"
#include "server/compensate/layer_sweep.h"
#include "server/compensate/least_squares.h"
#include "server/model/torch_guard.h"
#include "tests/artifact/expert_models.h"
#include "tests/compensate/random_text.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::Each;
using testing::Optional;

constexpr double kRidge = 0.1;

class SequentialTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    base_ = LoadModel(folder_.path());
    mask_ = RandomMask(base_->config(), base_->config().intermediate_size - kRemovalStep);
    text_ = RandomText(base_->config(), 6, 1);
  }

  int64_t layers() const { return base_->config().num_layers; }
  at::Tensor Kept(int64_t layer) const {
    return IndexOf(mask_.kept[static_cast<size_t>(layer)], at::kCPU);
  }
  at::Tensor PlainColumns(int64_t layer) const {
    return base_->layer(layer).down.weight.index_select(1, Kept(layer));
  }

  // What a layer shows with plain weights behind layers cut as `solved` says, on all tokens.
  struct Seen {
    at::Tensor neurons;  // times what the norm behind the FFN makes of them
    at::Tensor missing;  // of the base's residual stream
    at::Tensor weights;  // of the tokens, [tokens, 1]
    Gram gram;
  };
  absl::StatusOr<Seen> See(int64_t layer, const std::map<int64_t, at::Tensor>& solved) {
    RunContext context;
    ASSIGN_OR_RETURN(const auto of_base, LayerSweep::Create(*base_, text_));
    ASSIGN_OR_RETURN(const auto of_cut, LayerSweep::Create(*base_, text_));
    for (int64_t before = 0; before < layer; ++before) {
      RETURN_IF_ERROR(of_base->Advance(before, base_->layer(before), context));
      ASSIGN_OR_RETURN(const LayerWeights cut, GuardTorch([&] {
                         return CutLayer(base_->layer(before), Kept(before), solved.at(before));
                       }));
      RETURN_IF_ERROR(of_cut->Advance(before, cut, context));
    }
    RETURN_IF_ERROR(of_base->Advance(layer, base_->layer(layer), context));
    ASSIGN_OR_RETURN(const LayerWeights plain, GuardTorch([&] {
                       return CutLayer(base_->layer(layer), Kept(layer), PlainColumns(layer));
                     }));
    std::vector<at::Tensor> neurons, missing, weights;
    GramSum sum(base_->config().post_norms);
    const LayerSweep::Observer observer = [&](const WeightedBatch& batch,
                                              const FfnActivation& activation) -> absl::Status {
      RETURN_IF_ERROR(sum.Add(batch, activation));
      return GuardTorch([&] {
        at::Tensor scaled = activation.neurons.to(at::kDouble);
        if (base_->config().post_norms) {
          scaled = scaled * PostNormWeights(activation.output).sqrt().unsqueeze(1);
        }
        const at::Tensor& target = of_base->hidden(neurons.size());
        neurons.push_back(scaled);
        missing.push_back((target - activation.residual).to(at::kDouble));
        weights.push_back(TokenWeights(batch, at::kCPU).to(at::kDouble).unsqueeze(1));
        return absl::OkStatus();
      });
    };
    RETURN_IF_ERROR(of_cut->Observe(layer, plain, context, observer));
    Seen seen;
    RETURN_IF_ERROR(sum.Finish(seen.gram));
    seen.neurons = at::cat(neurons);
    seen.missing = at::cat(missing);
    seen.weights = at::cat(weights);
    return seen;
  }

  // down_proj of each layer that was solved, float32.
  struct Solved {
    Sequential made;
    std::map<int64_t, at::Tensor> columns;
  };
  absl::StatusOr<Solved> Solve(const CompensationText& text, const std::vector<double>& ridges) {
    RunContext context;
    Solved solved;
    ASSIGN_OR_RETURN(solved.made, SolveSequential(
                                      *base_, mask_, text, ridges,
                                      [&](int64_t layer, const at::Tensor& columns) {
                                        solved.columns[layer] = columns.to(at::kFloat);
                                        return absl::OkStatus();
                                      },
                                      context));
    return solved;
  }
  // With `text_` alone, and one ridge in all layers.
  std::map<int64_t, at::Tensor> SolveWithoutTrial(double ridge) {
    absl::StatusOr<Solved> solved = Solve({text_, {}}, {ridge});
    EXPECT_OK(solved);
    return solved.ok() ? std::move(solved->columns) : std::map<int64_t, at::Tensor>();
  }

  // Mean nats of `text` in the cut model with these columns, plain ones where there are none.
  absl::StatusOr<double> NatsOf(const std::vector<WeightedBatch>& text,
                                const std::map<int64_t, at::Tensor>& solved) {
    RunContext context;
    ASSIGN_OR_RETURN(const auto sweep, LayerSweep::Create(*base_, text));
    for (int64_t layer = 0; layer < layers(); ++layer) {
      ASSIGN_OR_RETURN(const LayerWeights cut, GuardTorch([&] {
                         const auto columns = solved.find(layer);
                         return CutLayer(
                             base_->layer(layer), Kept(layer),
                             columns == solved.end() ? PlainColumns(layer) : columns->second);
                       }));
      RETURN_IF_ERROR(sweep->Advance(layer, cut, context));
    }
    return sweep->MeanNats(context);
  }

  const TempDir folder_;
  std::unique_ptr<Transformer> base_;
  Mask mask_;
  std::vector<WeightedBatch> text_;
};

class SequentialWithoutPostNorms : public SequentialTest {};

// The first layer sees what it sees in the base, so that its target is what the removed neurons
// wrote: least squares as in least_squares.h. A norm behind the FFN makes that true to first order
// only.
TEST_P(SequentialWithoutPostNorms, SolvesTheFirstLayerAsLeastSquaresDoes) {
  const auto solved = SolveWithoutTrial(kRidge);
  RunContext context;
  ASSERT_OK_AND_ASSIGN(const auto sweep, LayerSweep::Create(*base_, text_));
  GramSum sum(/*post_norm=*/false);
  ASSERT_OK(sweep->Advance(0, base_->layer(0), context,
                           [&](const WeightedBatch& batch, const FfnActivation& activation) {
                             return sum.Add(batch, activation);
                           }));
  Gram gram;
  ASSERT_OK(sum.Finish(gram));
  ASSERT_OK_AND_ASSIGN(const Seen seen, See(0, solved));
  ASSERT_OK(GuardTorch([&] {
    // The ridge of the cut model is measured by the kept neurons alone.
    const at::Tensor expected = SolveLeastSquares(base_->layer(0).down.weight, gram.moments,
                                                  Kept(0), kRidge * seen.gram.ordinary_diagonal);
    EXPECT_TRUE(at::allclose(solved.at(0).to(at::kDouble), expected, 1e-2, 1e-3));
    EXPECT_FALSE(at::allclose(solved.at(0), PlainColumns(0), 1e-2, 1e-3));
    return absl::OkStatus();
  }));
}

// Against the direct problem on every token, with the layers before as they were solved.
TEST_P(SequentialTest, MinimisesTheWeightedErrorOfTheLastLayersResidualStream) {
  const auto solved = SolveWithoutTrial(kRidge);
  const int64_t last = layers() - 1;
  ASSERT_OK_AND_ASSIGN(const Seen seen, See(last, solved));
  ASSERT_OK(GuardTorch([&] {
    const at::Tensor root = seen.weights.sqrt();
    at::Tensor gain = at::ones({seen.missing.size(1)}, at::kDouble);
    if (base_->config().post_norms) {
      gain = base_->layer(last).post_ffn_norm.to(at::kDouble) + base_->config().norm_offset;
    }
    // Rows: the tokens, then the ridge.
    const int64_t kept = seen.neurons.size(1);
    const double lambda = kRidge * seen.gram.ordinary_diagonal;
    const at::Tensor rows =
        at::cat({root * seen.neurons, std::sqrt(lambda) * at::eye(kept, at::kDouble)});
    const at::Tensor targets =
        at::cat({root * seen.missing / gain, at::zeros({kept, seen.missing.size(1)}, at::kDouble)});
    const at::Tensor change = std::get<0>(at::linalg_lstsq(rows, targets)).t();
    const at::Tensor expected = PlainColumns(last).to(at::kDouble) + change;
    EXPECT_TRUE(at::allclose(solved.at(last).to(at::kDouble), expected, 1e-2, 1e-3))
        << (solved.at(last).to(at::kDouble) - expected).abs().max().item<double>();
    return absl::OkStatus();
  }));
}

TEST_P(SequentialTest, LeavesWeightsAloneAtAHugeRidge) {
  const auto solved = SolveWithoutTrial(1e12);
  for (int64_t layer = 0; layer < layers(); ++layer) {
    EXPECT_TRUE(at::allclose(solved.at(layer), PlainColumns(layer).to(at::kFloat), 1e-2, 1e-5));
  }
}

TEST_P(SequentialTest, ChangesNothingWhereNothingIsRemoved) {
  mask_ = RandomMask(base_->config(), base_->config().intermediate_size);
  for (const auto& [layer, columns] : SolveWithoutTrial(kRidge)) {
    EXPECT_TRUE(at::allclose(columns, base_->layer(layer).down.weight, 1e-2, 1e-5)) << layer;
  }
}

TEST_P(SequentialTest, WithoutARidgeToTryItJudgesPlainPruningAndSolvesNothing) {
  const auto held_out = RandomText(base_->config(), 2, 2);
  ASSERT_OK_AND_ASSIGN(const Solved solved, Solve({text_, held_out}, {}));
  ASSERT_OK_AND_ASSIGN(const double plain, NatsOf(held_out, {}));
  EXPECT_NEAR(solved.made.held_out_nats, plain, 1e-9 * plain);
  EXPECT_THAT(solved.made.ridges, testing::SizeIs(layers()));
  EXPECT_THAT(solved.made.ridges, Each(std::nullopt));
  EXPECT_TRUE(solved.columns.empty());
}

// The same text on both sides: a ridge can only help there, so that the trial is the model that
// this text alone makes.
TEST_P(SequentialTest, TheTrialIsWhatCalibrationTextAloneMakes) {
  ASSERT_OK_AND_ASSIGN(const Solved solved, Solve({text_, text_}, {kRidge}));
  EXPECT_THAT(solved.made.ridges, Each(Optional(kRidge)));
  ASSERT_OK_AND_ASSIGN(const double made, NatsOf(text_, SolveWithoutTrial(kRidge)));
  EXPECT_NEAR(solved.made.held_out_nats, made, 1e-9 * made);
}

// Held-out text that is a part of the calibration text, so that the ridge helps in every layer.
TEST_P(SequentialTest, WhatIsKeptComesOfCalibrationAndHeldOutTextTogether) {
  const std::vector<WeightedBatch> held_out = {text_.front()};
  ASSERT_OK_AND_ASSIGN(const Solved solved, Solve({text_, held_out}, {kRidge}));
  EXPECT_THAT(solved.made.ridges, Each(Optional(kRidge)));
  std::vector<WeightedBatch> both = text_;
  both.push_back(text_.front());
  ASSERT_OK_AND_ASSIGN(const Solved together, Solve({both, {}}, {kRidge}));
  const auto of_calibration = SolveWithoutTrial(kRidge);
  for (int64_t layer = 0; layer < layers(); ++layer) {
    const at::Tensor& kept = solved.columns.at(layer);
    EXPECT_TRUE(at::allclose(kept, together.columns.at(layer), 1e-2, 1e-4)) << layer;
    EXPECT_FALSE(at::allclose(kept, of_calibration.at(layer), 1e-2, 1e-4)) << layer;
  }
}

TEST_P(SequentialTest, StopsWhenItIsCancelledAndRefusesAMaskOfAnotherModel) {
  const auto solve = [&](RunContext& context) {
    return SolveSequential(
        *base_, mask_, {text_, text_}, {kRidge},
        [](int64_t, const at::Tensor&) { return absl::OkStatus(); }, context);
  };
  RunContext cancelled;
  cancelled.Cancel();
  EXPECT_THAT(solve(cancelled), StatusIs(absl::StatusCode::kCancelled));
  RunContext context;
  mask_.kept.pop_back();
  EXPECT_THAT(solve(context), StatusIs(absl::StatusCode::kInvalidArgument));
}

INSTANTIATE_TEST_SUITE_P(Models, SequentialWithoutPostNorms, testing::ValuesIn(TinyLlamaNames()),
                         [](const auto& name) { return name.param; });
INSTANTIATE_TEST_SUITE_P(Models, SequentialTest, testing::ValuesIn(TinyModelNames()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace secateur
