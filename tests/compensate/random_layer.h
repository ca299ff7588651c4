// A layer small enough to work out by hand: activations of correlated neurons, and down_proj.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

namespace secateur {

struct RandomLayer {
  at::Tensor activations;  // [tokens, neurons], float64
  at::Tensor down;         // [hidden size, neurons], float64
  at::Tensor moments;      // of the activations, each token with weight 1 / tokens

  explicit RandomLayer(int64_t seed, int64_t tokens = 200, int64_t neurons = 24,
                       int64_t hidden = 10) {
    at::manual_seed(static_cast<uint64_t>(seed));
    // Few causes behind many neurons: the others can make up for most of what one does.
    const at::Tensor causes = at::randn({tokens, 8}, at::kDouble);
    activations = causes.matmul(at::randn({8, neurons}, at::kDouble)) +
                  0.3 * at::randn({tokens, neurons}, at::kDouble);
    down = at::randn({hidden, neurons}, at::kDouble);
    moments = activations.t().matmul(activations) / static_cast<double>(tokens);
  }
};

inline at::Tensor Index(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong);
}

// The least squared error of a cut and the change of the kept columns that gives it, by an ordinary
// least squares solver on the tokens themselves: each token a row, and below them sqrt(lambda)
// times the identity. `regularised` counts the ridge's own terms, lambda times the squared change
// of all columns.
inline double CutError(const RandomLayer& layer, const at::Tensor& kept, double lambda,
                       bool regularised, at::Tensor* change = nullptr) {
  const double tokens = static_cast<double>(layer.activations.size(0));
  const at::Tensor gone = layer.down.clone().index_fill(1, kept, 0);
  const at::Tensor kept_columns = layer.activations.index_select(1, kept) / std::sqrt(tokens);
  const at::Tensor wanted = layer.activations.matmul(gone.t()) / std::sqrt(tokens);
  const at::Tensor rows =
      at::cat({kept_columns, std::sqrt(lambda) * at::eye(kept.size(0), at::kDouble)});
  const at::Tensor targets =
      at::cat({wanted, at::zeros({kept.size(0), wanted.size(1)}, at::kDouble)});
  const at::Tensor solution = std::get<0>(at::linalg_lstsq(rows, targets));
  if (change != nullptr) *change = solution.t();
  const at::Tensor error = kept_columns.matmul(solution) - wanted;
  const double ridge = lambda * (gone.square().sum() + solution.square().sum()).item<double>();
  return error.square().sum().item<double>() + (regularised ? ridge : 0.0);
}

}  // namespace secateur
