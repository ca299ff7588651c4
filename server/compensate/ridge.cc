#include "server/compensate/ridge.h"

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/compensate/least_squares.h"

namespace secateur {

absl::StatusOr<RidgeChoice> ChooseRidge(const at::Tensor& projection, const Gram& learn,
                                        const Gram& judge, const at::Tensor& plain,
                                        const at::Tensor& kept, RunContext& context) {
  const auto error_of = [&](const at::Tensor& columns, const at::Tensor& channels) {
    return LayerError(projection, columns, channels, judge.moments) / judge.residual;
  };
  RidgeChoice choice;
  choice.plain_error = error_of(projection.index_select(1, plain), plain);
  choice.error = error_of(projection.index_select(1, kept), kept);
  const LeastSquares squares(projection, learn.moments, kept);
  for (const double ridge : kRidges) {
    RETURN_IF_ERROR(context.CheckCancelled());
    const double error = error_of(squares.Solve(ridge * learn.ordinary_diagonal), kept);
    if (!(error < choice.error)) continue;
    choice.error = error;
    choice.ridge = ridge;
  }
  return choice;
}

}  // namespace secateur
