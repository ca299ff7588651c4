#include "server/model/row_affinity.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "server/base/strings.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

constexpr double kRidge = 0.01;          // of features that are about 1 in size, weights sum to 1
constexpr int64_t kSampleRows = 32'768;  // of all rows, at most
constexpr int64_t kChunkRows = 16'384;   // features that exist at once when all rows are scored
constexpr double kFirstIds = 500;        // below, ids say little about frequency

// Rows as features: directions around their mean, of the size 1 on average; the logarithm of the
// id; and a constant.
class Features {
 public:
  Features(const at::Tensor& embedding, const at::Tensor& sample)
      : embedding_(embedding), center_(Directions(sample).mean(0, /*keepdim=*/true)) {
    const auto rows = static_cast<double>(embedding.size(0));
    middle_ = std::log(rows / 2 + kFirstIds);
    spread_ = std::max(1e-3, (std::log(rows + kFirstIds) - std::log(kFirstIds)) / 4);
  }

  // [rows, d + 2] of the rows with these ids.
  at::Tensor Of(const at::Tensor& ids) const {
    const double scale = std::sqrt(static_cast<double>(embedding_.size(1)));
    const at::Tensor number =
        ((ids.to(at::kFloat) + kFirstIds).log() - middle_).div(spread_).unsqueeze(1);
    return at::cat({(Directions(ids) - center_) * scale, number, at::ones_like(number)}, 1);
  }

 private:
  at::Tensor Directions(const at::Tensor& ids) const {
    const at::Tensor rows = embedding_.index_select(0, ids).to(at::kFloat);
    return rows / rows.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12);
  }

  const at::Tensor embedding_;
  const at::Tensor center_;
  double middle_ = 0;
  double spread_ = 1;
};

// The sums of one side, whose rows have the weight 1/2 together.
void AddSide(const at::Tensor& features, double target, at::Tensor& gram, at::Tensor& moment) {
  const double weight = 0.5 / static_cast<double>(features.size(0));
  gram += at::mm(features.t(), features).to(at::kDouble) * weight;
  moment += features.sum(0).to(at::kDouble) * (weight * target);
}

}  // namespace

absl::StatusOr<std::vector<float>> RowAffinity(const at::Tensor& embedding,
                                               const std::vector<int32_t>& examples) {
  const int64_t rows = embedding.size(0);
  const auto outside = std::find_if(examples.begin(), examples.end(),
                                    [&](int32_t id) { return id < 0 || id >= rows; });
  if (examples.empty() || outside != examples.end()) {
    return absl::InvalidArgumentError(
        examples.empty() ? std::string("there are no examples of rows to be like")
                         : StrCat("the example ", *outside, " is no row; there are ", rows));
  }
  return GuardTorch([&] {
    const auto on_device = at::TensorOptions().device(embedding.device()).dtype(at::kLong);
    const at::Tensor all = at::arange(rows, on_device);
    const at::Tensor sample =
        all.slice(0, 0, rows, std::max<int64_t>(1, (rows + kSampleRows - 1) / kSampleRows));
    const Features features(embedding, sample);
    const int64_t width = embedding.size(1) + 2;
    const auto sums = at::TensorOptions().device(embedding.device()).dtype(at::kDouble);
    at::Tensor gram = at::eye(width, sums) * kRidge;
    at::Tensor moment = at::zeros({width}, sums);
    AddSide(features.Of(sample), 0, gram, moment);
    AddSide(features.Of(at::tensor(examples, at::kInt).to(on_device)), 1, gram, moment);
    const at::Tensor score =
        at::cholesky_solve(moment.unsqueeze(1), at::linalg_cholesky(gram)).to(at::kFloat);

    std::vector<float> scores;
    for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
      const at::Tensor ids = all.slice(0, begin, std::min(rows, begin + kChunkRows));
      const at::Tensor chunk = at::mm(features.Of(ids), score).to(at::kCPU).contiguous();
      const float* data = chunk.const_data_ptr<float>();
      scores.insert(scores.end(), data, data + chunk.numel());
    }
    return scores;
  });
}

}  // namespace secateur
