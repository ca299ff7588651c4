#include "server/compensate/second_order.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// The state of a layer while neurons go: removed ones have zero columns and rows.
class Removal {
 public:
  Removal(const at::Tensor& down, const at::Tensor& moments, double lambda)
      : down_(down.to(at::kDouble).clone()) {
    at::Tensor system = moments.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
    system.diagonal().add_(lambda);
    inverse_ = at::cholesky_inverse(at::linalg_cholesky(system));
    gone_ = at::zeros({down.size(1)}, down.options().dtype(at::kBool));
  }

  // Takes `count` neurons out; returns them and what that cost.
  std::pair<at::Tensor, double> Step(int64_t count) {
    at::Tensor saliency = down_.square().sum(0) / inverse_.diagonal();
    saliency.masked_fill_(gone_, std::numeric_limits<double>::infinity());
    // Sorted by saliency, and by channel where that is equal.
    const at::Tensor chosen =
        std::get<1>(at::sort(saliency, /*stable=*/true, /*dim=*/0, /*descending=*/false))
            .narrow(0, 0, count);
    const at::Tensor rows = inverse_.index_select(0, chosen);  // H_R.
    const at::Tensor block = rows.index_select(1, chosen);     // H_RR
    const at::Tensor solved = at::cholesky_solve(rows, at::linalg_cholesky(block));
    const at::Tensor columns = down_.index_select(1, chosen);  // W_R
    const double cost = (at::cholesky_solve(columns.t(), at::linalg_cholesky(block)) * columns.t())
                            .sum()
                            .item<double>();
    down_.addmm_(columns, solved, 1, -1);
    inverse_.addmm_(rows.t(), solved, 1, -1);
    gone_.index_fill_(0, chosen, true);
    down_.index_fill_(1, chosen, 0);
    return {chosen.to(at::kInt).cpu(), cost};
  }

 private:
  at::Tensor down_;     // [hidden size, neurons]
  at::Tensor inverse_;  // [neurons, neurons]
  at::Tensor gone_;     // [neurons], bool
};

}  // namespace

absl::StatusOr<RemovalCurve> OrderBySecondOrder(const at::Tensor& down, const at::Tensor& moments,
                                                double lambda, int64_t most_removed, int64_t step,
                                                const RunContext& context) {
  RemovalCurve curve{.step = step, .order = {}, .error = {0.0}};
  const absl::Status done = GuardTorch([&]() -> absl::Status {
    Removal removal(down, moments, lambda);
    for (int64_t removed = 0; removed < most_removed;) {
      RETURN_IF_ERROR(context.CheckCancelled());
      const int64_t count = std::min(step, most_removed - removed);
      const auto [channels, cost] = removal.Step(count);
      const int32_t* first = channels.data_ptr<int32_t>();
      curve.order.insert(curve.order.end(), first, first + count);
      curve.error.push_back(curve.error.back() + std::max(cost, 0.0));
      removed += count;
    }
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(done);
  return curve;
}

}  // namespace secateur
