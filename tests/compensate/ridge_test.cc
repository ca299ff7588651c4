#include "server/compensate/ridge.h"

#include <gtest/gtest.h>

#include <optional>
#include <set>

#include "server/base/status_macros.h"
#include "server/model/torch_guard.h"
#include "tests/compensate/random_layer.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

const std::vector<int64_t> kKept = {0, 2, 3, 7, 8, 9, 11, 12, 15, 16, 18, 21, 23};
const std::vector<int64_t> kPlain = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

Gram GramOf(const at::Tensor& activations) {
  Gram gram;
  const auto tokens = static_cast<double>(activations.size(0));
  gram.moments = (activations.t().matmul(activations) / tokens).to(at::kFloat);
  gram.ordinary_diagonal = gram.moments.diagonal().mean().item<double>();
  gram.residual = 3;
  return gram;
}

// Mean squared change of the layer's output on tokens, when `kept` columns become `columns`.
double ErrorOn(const at::Tensor& activations, const at::Tensor& down, const at::Tensor& kept,
               const at::Tensor& columns) {
  const at::Tensor cut = at::zeros_like(down).index_copy(1, kept, columns);
  return activations.matmul((cut - down).t()).square().sum().item<double>() /
         static_cast<double>(activations.size(0));
}

// By the definition: every ridge solved on the tokens learnt from, and each solution tried on the
// tokens that judge.
TEST(ChooseRidge, TakesTheOneThatDoesBestOnTheTextThatJudges) {
  std::set<std::optional<double>> chosen;
  for (int seed = 0; seed < 24; ++seed) {
    // From few tokens, where a small ridge learns noise, to many.
    const RandomLayer layer(seed, /*tokens=*/400);
    const int64_t learnt = 6 << (seed % 6);
    const at::Tensor learn = layer.activations.narrow(0, 0, learnt);
    const at::Tensor judge = layer.activations.narrow(0, 200, 200);
    const at::Tensor kept = Index(kKept);
    const Gram learn_gram = GramOf(learn);

    const at::Tensor as_it_is = layer.down.index_select(1, kept);
    double least = ErrorOn(judge, layer.down, kept, as_it_is);
    std::optional<double> best;
    for (const double ridge : kRidges) {
      RandomLayer tokens(0);
      tokens.activations = learn;
      tokens.down = layer.down;
      at::Tensor change;
      CutError(tokens, kept, ridge * learn_gram.ordinary_diagonal, true, &change);
      const double error = ErrorOn(judge, layer.down, kept, as_it_is + change);
      if (error < least) {
        least = error;
        best = ridge;
      }
    }

    RunContext context;
    RidgeChoice choice;
    ASSERT_OK(GuardTorch([&]() -> absl::Status {
      ASSIGN_OR_RETURN(
          choice, ChooseRidge(layer.down, learn_gram, GramOf(judge), Index(kPlain), kept, context));
      return absl::OkStatus();
    }));
    EXPECT_EQ(choice.ridge, best) << seed;
    EXPECT_NEAR(choice.error, least / 3, 1e-4 * least) << seed;
    EXPECT_NEAR(
        choice.plain_error,
        ErrorOn(judge, layer.down, Index(kPlain), layer.down.index_select(1, Index(kPlain))) / 3,
        1e-4 * choice.plain_error)
        << seed;
    chosen.insert(choice.ridge);
  }
  EXPECT_GE(chosen.size(), 3U);  // else the text that judges would not matter here
}

// What was learnt says nothing about the text that judges: the weights stay as they are.
TEST(ChooseRidge, TakesNoneWhereCompensationDoesHarm) {
  const RandomLayer layer(1);
  Gram learn = GramOf(layer.activations);
  // Neurons that go were the opposite of those that stay; now they are alike.
  const at::Tensor kept = Index(kKept);
  at::Tensor other = -layer.activations.clone();
  other.index_copy_(1, kept, layer.activations.index_select(1, kept));
  RunContext context;
  RidgeChoice choice;
  ASSERT_OK(GuardTorch([&]() -> absl::Status {
    ASSIGN_OR_RETURN(choice, ChooseRidge(layer.down, learn, GramOf(other), kept, kept, context));
    return absl::OkStatus();
  }));
  EXPECT_FALSE(choice.ridge.has_value());
  EXPECT_EQ(choice.error, choice.plain_error);
}

}  // namespace
}  // namespace secateur
