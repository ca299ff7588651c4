// Which ridge a least squares problem takes: the one that does best on held-out text.
#pragma once

#include <array>
#include <optional>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/gram.h"

namespace secateur {

// Relative to the mean diagonal of the moments without first tokens (Gram::ordinary_diagonal).
inline constexpr std::array kRidges = {0.03, 0.1, 0.3, 1.0};
inline constexpr double kUntunedRidge = 0.1;  // where there is no held-out text

struct RidgeChoice {
  std::optional<double> ridge;  // absent: weights as they are do best
  // Squared errors on held-out text, as a share of the residual stream's mean square: of the plain
  // channels without compensation, and of the kept ones with the ridge.
  double plain_error = 0;
  double error = 0;
};

// projection: [hidden size, channels], gained; `plain` and `kept`: channels, int64, ascending.
// Stops within one solve after a cancel. Inside GuardTorch.
absl::StatusOr<RidgeChoice> ChooseRidge(const at::Tensor& projection, const Gram& learn,
                                        const Gram& judge, const at::Tensor& plain,
                                        const at::Tensor& kept, RunContext& context);

}  // namespace secateur
