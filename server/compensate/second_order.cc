#include "server/compensate/second_order.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <tuple>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/compensate/least_squares.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// The state of a layer while neurons go: removed ones have zero columns and rows.
class Removal {
 public:
  Removal(const at::Tensor& down, const at::Tensor& moments, double lambda,
          const std::vector<uint16_t>& protected_channels)
      : original_(down.to(at::kDouble)), down_(original_.clone()) {
    const RidgeFactor ridge = FactorWithRidge(moments.to(at::kDouble), lambda);
    lambda_ = ridge.lambda;
    inverse_ = at::cholesky_inverse(ridge.factor);
    never_ = at::zeros({down.size(1)}, at::kBool);
    for (const uint16_t channel : protected_channels) {
      never_.mutable_data_ptr<bool>()[channel] = true;
    }
    never_ = never_.to(down.device());
  }

  // Takes `count` neurons out and returns them.
  at::Tensor Step(int64_t count) {
    at::Tensor saliency = down_.square().sum(0) / inverse_.diagonal();
    saliency.masked_fill_(never_, std::numeric_limits<double>::infinity());
    // Sorted by saliency, and by channel where that is equal.
    const at::Tensor chosen =
        std::get<1>(at::sort(saliency, /*stable=*/true, /*dim=*/0, /*descending=*/false))
            .narrow(0, 0, count);
    const at::Tensor rows = inverse_.index_select(0, chosen);  // H_R.
    const at::Tensor block = rows.index_select(1, chosen);     // H_RR
    const at::Tensor solved = at::cholesky_solve(rows, at::linalg_cholesky(block));
    const at::Tensor columns = down_.index_select(1, chosen);  // W_R
    const at::Tensor weighed = at::cholesky_solve(columns.t(), at::linalg_cholesky(block));
    regularised_error_ += (weighed * columns.t()).sum().item<double>();
    down_.addmm_(columns, solved, 1, -1);
    inverse_.addmm_(rows.t(), solved, 1, -1);
    never_.index_fill_(0, chosen, true);
    down_.index_fill_(1, chosen, 0);
    return chosen.to(at::kInt).cpu();
  }

  double error() const {
    return regularised_error_ - lambda_ * (down_ - original_).square().sum().item<double>();
  }

 private:
  const at::Tensor original_;
  double lambda_ = 0;
  double regularised_error_ = 0;
  at::Tensor down_;     // [hidden size, neurons]
  at::Tensor inverse_;  // [neurons, neurons]
  at::Tensor never_;    // [neurons], bool: gone already, or protected
};

}  // namespace

absl::StatusOr<RemovalCurve> OrderBySecondOrder(const at::Tensor& down, const at::Tensor& moments,
                                                double lambda, int64_t most_removed, int64_t step,
                                                const std::vector<uint16_t>& protected_channels,
                                                const RunContext& context) {
  const int64_t removable = down.size(1) - std::ssize(protected_channels);
  most_removed = std::min(most_removed, removable);
  RemovalCurve curve{.step = step, .order = {}, .error = {0.0}};
  const absl::Status done = GuardTorch([&]() -> absl::Status {
    Removal removal(down, moments, lambda, protected_channels);
    for (int64_t removed = 0; removed < most_removed;) {
      RETURN_IF_ERROR(context.CheckCancelled());
      const int64_t count = std::min(step, most_removed - removed);
      const at::Tensor channels = removal.Step(count);
      const int32_t* first = channels.data_ptr<int32_t>();
      curve.order.insert(curve.order.end(), first, first + count);
      curve.error.push_back(std::max(curve.error.back(), removal.error()));
      removed += count;
    }
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(done);
  return curve;
}

}  // namespace secateur
