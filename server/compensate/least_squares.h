// Least squares on a projection that writes into the residual stream (ALGORITHM 5.2): its kept
// channels take over what the removed ones did. Said of down_proj and neurons; o_proj and the
// channels of heads are the same.
//
//   minimise over D:  sum_t q_t omega_t ||W_R a_R(t) - D a_P(t)||^2 + lambda ||D||^2
//   D = W_R G_RP (G_PP + lambda I)^-1,  W_P becomes W_P + D
//
// Prior-centred: a large ridge lambda leaves the kept weights as they are, which is plain pruning.
// Rows of W are independent, so a gain on rows (Gained) changes the error, not the solution.
// float64; libtorch's exceptions pass through. Pure functions.
#pragma once

#include <ATen/core/Tensor.h>

namespace secateur {

// The Cholesky factor of moments + lambda I, and the lambda it took: moments are summed in float32,
// and where first tokens dwarf all others rounding can leave the sum with a small ridge slightly
// indefinite; then ten times lambda is tried, and so on.
struct RidgeFactor {
  at::Tensor factor;  // lower, float64
  double lambda = 0;
};
// moments: [n, n], float64. REQUIRES: lambda > 0, or moments that are positive definite. Throws
// what libtorch throws where a million times lambda is not enough.
RidgeFactor FactorWithRidge(const at::Tensor& moments, double lambda);

// One cut, to be solved with several ridges: what they have in common is computed once.
// Memory: two matrices of kept^2 and two of hidden size x kept, float64.
class LeastSquares {
 public:
  // down: [hidden size, neurons]; moments: [neurons, neurons]; kept: [kept], int64, ascending.
  LeastSquares(const at::Tensor& down, const at::Tensor& moments, const at::Tensor& kept);
  // [hidden size, kept], float64. `lambda` as in FactorWithRidge.
  at::Tensor Solve(double lambda) const;

 private:
  at::Tensor kept_down_;     // W_P
  at::Tensor kept_moments_;  // G_PP
  at::Tensor product_;       // W G_P
};

// With one ridge.
at::Tensor SolveLeastSquares(const at::Tensor& down, const at::Tensor& moments,
                             const at::Tensor& kept, double lambda);

// tr((W' - W) G (W' - W)'), W' = `kept_down` in the kept columns and 0 elsewhere: the weighted
// squared error of the layer's output on the text that `moments` come from.
double LayerError(const at::Tensor& down, const at::Tensor& kept_down, const at::Tensor& kept,
                  const at::Tensor& moments);

}  // namespace secateur
