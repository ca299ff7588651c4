#include "server/compensate/gram.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "server/base/strings.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

// The product is symmetric: it is computed for the upper block rows alone, a 1/2 + 1/(2 blocks) of
// the work.
constexpr int64_t kBlocks = 6;

void AddUpperProduct(const at::Tensor& rows, at::Tensor& moments) {
  const int64_t m = rows.size(1);
  const int64_t step = (m + kBlocks - 1) / kBlocks;
  for (int64_t begin = 0; begin < m; begin += step) {
    const int64_t count = std::min(step, m - begin);
    at::Tensor part = moments.narrow(0, begin, count).narrow(1, begin, m - begin);
    part.addmm_(rows.narrow(1, begin, count).t(), rows.narrow(1, begin, m - begin));
  }
}

// [tokens]: 0 for the first token of each sequence.
at::Tensor OrdinaryTokens(const PackedBatch& batch) {
  at::Tensor ordinary = at::ones({batch.tokens()}, at::kFloat);
  float* values = ordinary.mutable_data_ptr<float>();
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) values[batch.offsets[i]] = 0.0F;
  return ordinary;
}

double Number(const at::Tensor& scalar) { return scalar.to(at::kDouble).item<double>(); }

}  // namespace

absl::Status GramSum::Add(const WeightedBatch& batch, const FfnActivation& activation) {
  return AddRows(batch, activation.layer, activation.neurons, activation.output,
                 activation.residual);
}

absl::Status GramSum::Add(const WeightedBatch& batch, const AttentionActivation& activation) {
  return AddRows(batch, activation.layer, activation.heads, activation.output, activation.residual);
}

absl::Status GramSum::AddRows(const WeightedBatch& batch, int64_t layer, const at::Tensor& inputs,
                              const at::Tensor& output, const at::Tensor& residual_stream) {
  return GuardTorch([&]() -> absl::Status {
    const at::Device device = inputs.device();
    const at::Tensor tokens = TokenWeights(batch, device);
    const at::Tensor weights = post_norm_ ? tokens * PostNormWeights(output) : tokens;
    const at::Tensor ordinary = OrdinaryTokens(batch.batch).to(device);
    // sqrt(q omega) a: the moments are the product with itself.
    const at::Tensor channels = inputs.to(at::kFloat);
    const at::Tensor rows = channels * weights.sqrt().unsqueeze(1);
    const double diagonal =
        Number((rows.square().sum(1) * ordinary).sum()) / static_cast<double>(rows.size(1));
    const double residual =
        Number((residual_stream.to(at::kFloat).square().sum(1) * tokens * ordinary).sum());
    if (!std::isfinite(diagonal) || !std::isfinite(residual)) {
      return absl::DataLossError(StrCat("layer ", layer, ": the activations are not finite"));
    }
    if (!sum_.moments.defined()) {
      sum_.moments = at::zeros({rows.size(1), rows.size(1)}, rows.options());
      sum_.sum = at::zeros({rows.size(1)}, rows.options());
    }
    AddUpperProduct(rows, sum_.moments);
    sum_.sum.addmv_(channels.t(), tokens);
    sum_.weight += Number(tokens.sum());
    sum_.ordinary_diagonal += diagonal;
    sum_.residual += residual;
    return absl::OkStatus();
  });
}

absl::Status GramSum::Finish(Gram& gram) {
  if (!sum_.moments.defined()) {
    return absl::InvalidArgumentError("second moments need at least one batch of text");
  }
  return GuardTorch([&] {
    sum_.moments = at::triu(sum_.moments) + at::triu(sum_.moments, 1).t();
    gram = std::move(sum_);
    return absl::OkStatus();
  });
}

at::Tensor TokenWeights(const WeightedBatch& batch, const at::Device& device) {
  // from_blob takes no pointer to const; the tensor is only read.
  return at::from_blob(const_cast<float*>(batch.weights.data()),
                       {static_cast<int64_t>(batch.weights.size())}, at::kFloat)
      .to(device);
}

at::Tensor PostNormWeights(const at::Tensor& output) {
  const at::Tensor squared = output.to(at::kFloat).square().sum(1);
  const double d = static_cast<double>(output.size(1));
  return at::where(squared > 0, d / squared, 0.0);
}

Gram Mixed(const Gram& a, const Gram& b, double weight) {
  if (!b.moments.defined()) return a;
  return {.moments = a.moments + weight * b.moments,
          .ordinary_diagonal = a.ordinary_diagonal + weight * b.ordinary_diagonal,
          .residual = a.residual + weight * b.residual,
          .sum = {}};
}

at::Tensor Gained(const at::Tensor& projection, const at::Tensor& gain) {
  const at::Tensor wide = projection.to(at::kDouble);
  return gain.defined() ? wide * gain.to(at::kDouble).unsqueeze(1) : wide;
}

}  // namespace secateur
