#include "server/compensate/least_squares.h"

#include <gtest/gtest.h>

#include "tests/compensate/random_layer.h"

namespace secateur {
namespace {

const std::vector<int64_t> kKept = {0, 2, 3, 7, 8, 9, 11, 12, 15, 16, 18, 21, 23};

TEST(LeastSquares, EqualsAnOrdinarySolverOnTheTokensThemselves) {
  for (const double lambda : {1e-3, 0.1, 10.0}) {
    const RandomLayer layer(1);
    const at::Tensor kept = Index(kKept);
    at::Tensor change;
    CutError(layer, kept, lambda, true, &change);
    const at::Tensor solved = SolveLeastSquares(layer.down, layer.moments, kept, lambda);
    EXPECT_TRUE(at::allclose(solved, layer.down.index_select(1, kept) + change, 1e-9, 1e-9));
  }
}

TEST(LeastSquares, BecomesPlainPruningAsTheRidgeGrows) {
  const RandomLayer layer(2);
  const at::Tensor kept = Index(kKept);
  const at::Tensor plain = layer.down.index_select(1, kept);
  double last = 1e300;
  for (const double lambda : {1e2, 1e4, 1e6, 1e8}) {
    const at::Tensor solved = SolveLeastSquares(layer.down, layer.moments, kept, lambda);
    const double distance = (solved - plain).norm().item<double>();
    EXPECT_LT(distance, last);
    last = distance;
  }
  EXPECT_LT(last, 1e-4);
}

TEST(LeastSquares, KeepsEverythingWhenNothingGoes) {
  const RandomLayer layer(3);
  const at::Tensor all = at::arange(layer.down.size(1), at::kLong);
  EXPECT_TRUE(at::allclose(SolveLeastSquares(layer.down, layer.moments, all, 0.1), layer.down));
}

// As sums in float32 are where one token dwarfs the others: symmetric, and slightly indefinite.
TEST(LeastSquares, TakesALargerRidgeWhereRoundingLeavesTheMomentsIndefinite) {
  const RandomLayer layer(5);
  const at::Tensor kept = Index(kKept);
  const auto count = static_cast<int64_t>(kKept.size());
  const at::Tensor system =
      layer.moments.index_select(0, kept).index_select(1, kept).to(at::kDouble);
  const RidgeFactor definite = FactorWithRidge(system, 0.1);
  EXPECT_EQ(definite.lambda, 0.1);
  const double least = at::linalg_eigvalsh(system).min().item<double>();
  const at::Tensor indefinite = system - (least + 0.5) * at::eye(count, at::kDouble);
  const RidgeFactor larger = FactorWithRidge(indefinite, 0.1);
  EXPECT_DOUBLE_EQ(larger.lambda, 1.0);
  const at::Tensor rebuilt = larger.factor.matmul(larger.factor.t());
  EXPECT_TRUE(at::allclose(rebuilt, indefinite + at::eye(count, at::kDouble)));
  const at::Tensor moments = layer.moments - (least + 0.5) * at::eye(layer.moments.size(0));
  EXPECT_TRUE(SolveLeastSquares(layer.down, moments, kept, 0.1).isfinite().all().item<bool>());
}

TEST(LayerError, IsTheSquaredChangeOfTheOutputOverTokens) {
  const RandomLayer layer(4);
  const at::Tensor kept = Index(kKept);
  const at::Tensor columns = SolveLeastSquares(layer.down, layer.moments, kept, 0.1);
  const at::Tensor before = layer.activations.matmul(layer.down.t());
  const at::Tensor after = layer.activations.index_select(1, kept).matmul(columns.t());
  const double direct =
      (before - after).square().sum().item<double>() / static_cast<double>(before.size(0));
  EXPECT_NEAR(LayerError(layer.down, columns, kept, layer.moments), direct, 1e-4 * direct);
  const double plain =
      LayerError(layer.down, layer.down.index_select(1, kept), kept, layer.moments);
  EXPECT_LT(direct, plain);
}

}  // namespace
}  // namespace secateur
