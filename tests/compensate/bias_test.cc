#include "server/compensate/bias.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "server/compensate/cut_layer.h"
#include "server/compensate/layer_sweep.h"
#include "server/model/torch_guard.h"
#include "tests/artifact/expert_models.h"
#include "tests/compensate/random_text.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class BiasTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    base_ = LoadModel(folder_.path());
    plain_ = RandomMask(base_->config(), base_->config().intermediate_size - kRemovalStep);
  }

  absl::StatusOr<Compensated> Run(bool held_out, Shape shape = Shape::kUniform) {
    RunContext context;
    text_ = {RandomText(base_->config(), 6, 1), {}};
    if (held_out) text_.held_out = RandomText(base_->config(), 2, 2);
    ASSIGN_OR_RETURN(const auto measured, MeasuredText::Measure(*base_, text_, {}, context));
    return Compensate(*base_, *measured,
                      {.plain = &plain_, .shape = shape, .compensation = Compensation::kBias},
                      context);
  }

  // W_R mean(a_R) of one layer, over all tokens by their weights.
  at::Tensor Expected(int64_t layer) {
    RunContext context;
    at::Tensor sum = at::zeros({base_->config().intermediate_size}, at::kDouble);
    double weight = 0;
    auto sweep = LayerSweep::Create(*base_, text_.calibration);
    EXPECT_OK(sweep);
    for (int64_t l = 0; l <= layer; ++l) {
      const LayerSweep::Observer observer = [&](const WeightedBatch& batch,
                                                const FfnActivation& activation) {
        for (size_t t = 0; t < batch.weights.size(); ++t) {
          sum += batch.weights[t] *
                 activation.neurons.select(0, static_cast<int64_t>(t)).to(at::kDouble);
          weight += batch.weights[t];
        }
        return absl::OkStatus();
      };
      EXPECT_OK((*sweep)->Advance(l, base_->layer(l), context, l == layer ? observer : nullptr));
    }
    const at::Tensor kept = IndexOf(plain_.kept[static_cast<size_t>(layer)], at::kCPU);
    sum = (sum / weight).index_fill(0, kept, 0);
    const LinearWeights& down = base_->layer(layer).down;
    const at::Tensor bias = down.weight.to(at::kDouble).mv(sum);
    return down.bias.defined() ? bias + down.bias.to(at::kDouble) : bias;
  }

  const TempDir folder_;
  std::unique_ptr<Transformer> base_;
  Mask plain_;
  CompensationText text_;
};

TEST_P(BiasTest, IsWhatRemovedNeuronsWroteOnAverage) {
  ASSERT_OK_AND_ASSIGN(const Compensated result, Run(false));
  EXPECT_EQ(result.chosen.compensation, Compensation::kBias);
  EXPECT_EQ(result.mask, plain_);
  EXPECT_THAT(result.layers, SizeIs(base_->config().num_layers));
  for (int64_t layer = 0; layer < base_->config().num_layers; ++layer) {
    const TensorView* view =
        result.replaced->Find(StrCat("model.layers.", layer, ".mlp.down_proj.bias"));
    ASSERT_NE(view, nullptr);
    ASSERT_OK_AND_ASSIGN(const at::Tensor bias, LoadTensor(*view, Device{}));
    EXPECT_TRUE(at::allclose(bias.to(at::kDouble), Expected(layer), 1e-2, 1e-4)) << layer;
  }
}

// Biases that come new for all three, in the width that each shape has.
TEST_P(BiasTest, BringsTheZerosThatItsConfigAsksFor) {
  for (const Shape shape : {Shape::kUniform, Shape::kMasked}) {
    ASSERT_OK_AND_ASSIGN(const Compensated result, Run(false, shape));
    const TensorView* gate = result.replaced->Find("model.layers.0.mlp.gate_proj.bias");
    ASSERT_EQ(gate != nullptr, !base_->config().mlp_bias);
    if (gate == nullptr) continue;
    const int64_t width = base_->config().intermediate_size;
    EXPECT_EQ(gate->shape[0], shape == Shape::kMasked ? width : width - kRemovalStep);
    EXPECT_EQ(gate->bytes.find_first_not_of('\0'), std::string_view::npos);
    EXPECT_NE(result.replaced->Find("model.layers.0.mlp.up_proj.bias"), nullptr);
  }
}

TEST_P(BiasTest, IsTakenOnlyWhereItDoesBetterOnHeldOutText) {
  ASSERT_OK_AND_ASSIGN(const Compensated result, Run(true));
  ASSERT_THAT(result.candidates, SizeIs(2));
  const double bias = result.candidates[0].held_out_nats;
  const double plain = result.candidates[1].held_out_nats;
  EXPECT_NE(bias, plain);
  EXPECT_EQ(result.chosen.compensation, bias <= plain ? Compensation::kBias : Compensation::kNone);
  EXPECT_EQ(result.replaced != nullptr, bias <= plain);
}

INSTANTIATE_TEST_SUITE_P(Models, BiasTest, testing::ValuesIn(TinyLlamaNames()),
                         [](const auto& name) { return name.param; });

class RefusedBias : public BiasTest {};

TEST_P(RefusedBias, NamesTheFamilyThatHoldsNone) {
  EXPECT_FALSE(CanHoldBias(base_->config()));
  EXPECT_THAT(Run(false), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("gemma3_text")));
}

INSTANTIATE_TEST_SUITE_P(Models, RefusedBias, testing::Values("gemma3"));

}  // namespace
}  // namespace secateur
