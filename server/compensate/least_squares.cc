#include "server/compensate/least_squares.h"

#include <ATen/ATen.h>

namespace secateur {
namespace {

constexpr int kMostGrowths = 6;  // of a ridge, by ten each

}  // namespace

RidgeFactor FactorWithRidge(const at::Tensor& moments, double lambda) {
  for (int growth = 0; growth < kMostGrowths; ++growth, lambda *= 10) {
    at::Tensor system = moments.clone();
    system.diagonal().add_(lambda);
    const auto [factor, info] = at::linalg_cholesky_ex(system);
    if (info.item<int32_t>() == 0) return {factor, lambda};
  }
  at::Tensor system = moments.clone();
  system.diagonal().add_(lambda);
  return {at::linalg_cholesky(system), lambda};
}

LeastSquares::LeastSquares(const at::Tensor& down, const at::Tensor& moments,
                           const at::Tensor& kept) {
  const at::Tensor wide = down.to(at::kDouble);
  const at::Tensor columns = moments.index_select(1, kept).to(at::kDouble);  // [neurons, kept]
  kept_down_ = wide.index_select(1, kept);
  kept_moments_ = columns.index_select(0, kept);
  product_ = wide.matmul(columns);
}

at::Tensor LeastSquares::Solve(double lambda) const {
  const RidgeFactor ridge = FactorWithRidge(kept_moments_, lambda);
  // (W G_P + lambda W_P) (G_PP + lambda I)^-1 = W_P + D.
  const at::Tensor right = product_ + ridge.lambda * kept_down_;
  return at::cholesky_solve(right.t(), ridge.factor).t();
}

at::Tensor SolveLeastSquares(const at::Tensor& down, const at::Tensor& moments,
                             const at::Tensor& kept, double lambda) {
  return LeastSquares(down, moments, kept).Solve(lambda);
}

double LayerError(const at::Tensor& down, const at::Tensor& kept_down, const at::Tensor& kept,
                  const at::Tensor& moments) {
  // float32 is enough: errors are compared, not accumulated.
  at::Tensor change = -down.to(at::kFloat);
  change.index_add_(1, kept, kept_down.to(at::kFloat));
  return (change.matmul(moments.to(at::kFloat)) * change).sum(at::kDouble).item<double>();
}

}  // namespace secateur
