#include "server/compensate/gram.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

struct Text {
  WeightedBatch batch{{.ids = std::vector<int32_t>(9, 0), .offsets = {0, 4, 9}},
                      {0.5F, 1, 1, 1, 0.5F, 2, 2, 2, 0}};
  FfnActivation activation;

  explicit Text(uint64_t seed) {
    at::manual_seed(seed);
    activation.neurons = at::randn({9, 7});
    activation.output = at::randn({9, 5});
    activation.residual = at::randn({9, 5});
  }
  double weight(int64_t token) const { return batch.weights[static_cast<size_t>(token)]; }
};

Gram Sum(bool post_norm, const std::vector<Text>& texts) {
  GramSum sum(post_norm);
  for (const Text& text : texts) EXPECT_OK(sum.Add(text.batch, text.activation));
  Gram gram;
  EXPECT_OK(sum.Finish(gram));
  return gram;
}

TEST(GramSum, IsTheWeightedSumOfOuterProductsOverBatches) {
  for (const bool post_norm : {false, true}) {
    const std::vector<Text> texts = {Text(1), Text(2)};
    at::Tensor direct = at::zeros({7, 7}, at::kDouble);
    double diagonal = 0;
    double residual = 0;
    for (const Text& text : texts) {
      for (int64_t token = 0; token < 9; ++token) {
        const at::Tensor a = text.activation.neurons[token].to(at::kDouble);
        double weight = text.weight(token);
        if (post_norm) weight *= 5 / text.activation.output[token].square().sum().item<double>();
        direct += weight * at::outer(a, a);
        if (token == 0 || token == 4) continue;
        diagonal += weight * a.square().sum().item<double>() / 7;
        residual +=
            text.weight(token) * text.activation.residual[token].square().sum().item<double>();
      }
    }
    const Gram gram = Sum(post_norm, texts);
    EXPECT_TRUE(at::allclose(gram.moments.to(at::kDouble), direct, 1e-5, 1e-5));
    EXPECT_TRUE(at::equal(gram.moments, gram.moments.t()));
    EXPECT_NEAR(gram.ordinary_diagonal, diagonal, 1e-5 * diagonal);
    EXPECT_NEAR(gram.residual, residual, 1e-5 * residual);
  }
}

// What o_proj reads is summed as what down_proj reads.
TEST(GramSum, OfAttentionIsThatOfTheSameRows) {
  for (const bool post_norm : {false, true}) {
    const Text text(3);
    AttentionActivation attention;
    attention.heads = text.activation.neurons;
    attention.output = text.activation.output;
    attention.residual = text.activation.residual;
    GramSum sum(post_norm);
    ASSERT_OK(sum.Add(text.batch, attention));
    Gram gram;
    ASSERT_OK(sum.Finish(gram));
    const Gram wanted = Sum(post_norm, {text});
    EXPECT_TRUE(at::equal(gram.moments, wanted.moments));
    EXPECT_EQ(gram.residual, wanted.residual);
  }
}

TEST(GramSum, RefusesNumbersThatAreNotFinite) {
  Text text(3);
  text.activation.neurons[2][3] = std::numeric_limits<float>::infinity();
  GramSum sum(false);
  EXPECT_THAT(sum.Add(text.batch, text.activation), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(GramSum, NeedsText) {
  Gram gram;
  EXPECT_THAT(GramSum(false).Finish(gram), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Mixed, AddsAllThatAGramHolds) {
  const Gram a = Sum(false, {Text(1)});
  const Gram b = Sum(false, {Text(2)});
  const Gram mixed = Mixed(a, b, 0.25);
  EXPECT_TRUE(at::allclose(mixed.moments, a.moments + 0.25 * b.moments));
  EXPECT_DOUBLE_EQ(mixed.ordinary_diagonal, a.ordinary_diagonal + 0.25 * b.ordinary_diagonal);
  EXPECT_DOUBLE_EQ(mixed.residual, a.residual + 0.25 * b.residual);
}

TEST(Gained, ScalesRowsByTheGainOfTheNormThatFollows) {
  at::manual_seed(5);
  const at::Tensor down = at::randn({3, 4});
  const at::Tensor gain = at::tensor({1.0F, 2.0F, -0.5F});
  const at::Tensor gained = Gained(down, gain);
  EXPECT_EQ(gained.scalar_type(), at::kDouble);
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_TRUE(at::allclose(gained[row], down[row].to(at::kDouble) * gain[row].item<double>()));
  }
  EXPECT_TRUE(at::equal(Gained(down, {}), down.to(at::kDouble)));
}

}  // namespace
}  // namespace secateur
