#include "server/profile/scorer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "server/profile/token_sums.h"

namespace secateur {
namespace {

// Rows of down_proj turned into double at a time: bounds the memory of MeasureNeurons.
constexpr int64_t kWeightRows = 256;

bool FitsKernel(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat && tensor.stride(1) == 1;
}

// float32 and double stay, narrower types widen.
at::Tensor Widen(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? tensor : tensor.to(at::kFloat);
}

std::vector<double> ToVector(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  const double* first = values.const_data_ptr<double>();
  return {first, first + values.numel()};
}

// ||row||^2 of each row of a matrix.
std::vector<double> SquaredRowNorms(const at::Tensor& rows) {
  if (!FitsKernel(rows)) return ToVector(rows.to(at::kDouble).square().sum(1));
  std::vector<double> norms(static_cast<size_t>(rows.size(0)));
  const float* first = rows.const_data_ptr<float>();
  const int64_t stride = rows.stride(0);
  const int64_t width = rows.size(1);
  at::parallel_for(0, rows.size(0), /*grain_size=*/64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      norms[static_cast<size_t>(t)] = SquaredNorm(first + t * stride, width);
    }
  });
  return norms;
}

double Reciprocal(double squared_norm) {
  if (!std::isfinite(squared_norm)) return std::numeric_limits<double>::quiet_NaN();
  return squared_norm > 0 ? 1 / squared_norm : 0;
}

template <class Activation>
std::vector<double> WeightsOf(const Activation& activation, bool post_norm) {
  std::vector<double> weights = SquaredRowNorms(activation.residual);
  std::transform(weights.begin(), weights.end(), weights.begin(), Reciprocal);
  if (!post_norm) return weights;
  const std::vector<double> outputs = SquaredRowNorms(activation.output);
  const auto hidden_size = static_cast<double>(activation.output.size(1));
  for (size_t t = 0; t < weights.size(); ++t) weights[t] *= hidden_size * Reciprocal(outputs[t]);
  return weights;
}

TokenSums Zeros(int64_t channels) {
  const std::vector<double> zeros(static_cast<size_t>(channels));
  return {.weighted = zeros, .squared = zeros, .plain = zeros, .peak = zeros};
}

std::vector<TokenSums> SumInOnePass(const at::Tensor& neurons, const std::vector<double>& weights,
                                    std::span<const int64_t> offsets,
                                    const std::vector<double>& scales) {
  const int64_t channels = neurons.size(1);
  const int64_t stride = neurons.stride(0);
  const float* first = neurons.const_data_ptr<float>();
  const std::vector<float> narrow(weights.begin(), weights.end());
  const std::vector<float> narrow_scales(scales.begin(), scales.end());
  std::vector<TokenSums> sums(offsets.size() - 1, Zeros(channels));
  const int64_t blocks = (channels + kChannelBlock - 1) / kChannelBlock;
  at::parallel_for(0, blocks, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (size_t i = 0; i < sums.size(); ++i) {
      const TokenRows rows{.first = first + offsets[i] * stride,
                           .tokens = offsets[i + 1] - offsets[i],
                           .stride = stride};
      SumTokens(rows,
                {.weights = narrow.data() + offsets[i],
                 .scales = scales.empty() ? nullptr : narrow_scales.data() + offsets[i]},
                begin * kChannelBlock, std::min(end * kChannelBlock, channels),
                {.weighted = sums[i].weighted.data(),
                 .squared = sums[i].squared.data(),
                 .plain = sums[i].plain.data(),
                 .peak = sums[i].peak.data()});
    }
  });
  return sums;
}

// [4, channels]: the sums of one document in the order of TokenSums.
at::Tensor StackedSums(const at::Tensor& neurons, const at::Tensor& weights,
                       const at::Tensor& scales) {
  const at::Tensor wide = Widen(neurons);
  const at::Tensor squares = wide.square();
  const at::Tensor written =
      scales.defined() ? wide * scales.to(wide.scalar_type()).unsqueeze(1) : wide;
  return at::stack({(squares * weights.to(wide.scalar_type()).unsqueeze(1)).sum(0), squares.sum(0),
                    wide.sum(0), written.abs().amax(0)});
}

std::vector<TokenSums> SumByOperators(const at::Tensor& neurons, const std::vector<double>& weights,
                                      std::span<const int64_t> offsets,
                                      const std::vector<double>& scales) {
  const at::Tensor factors = at::tensor(weights, at::kDouble).to(neurons.device());
  const at::Tensor written =
      scales.empty() ? at::Tensor() : at::tensor(scales, at::kDouble).to(neurons.device());
  std::vector<at::Tensor> stacked;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    stacked.push_back(StackedSums(
        neurons.slice(0, offsets[i], offsets[i + 1]), factors.slice(0, offsets[i], offsets[i + 1]),
        written.defined() ? written.slice(0, offsets[i], offsets[i + 1]) : written));
  }
  // One copy off the device for all documents.
  const std::vector<double> values = ToVector(at::stack(stacked));
  const double* next = values.data();
  const auto take = [&next, channels = neurons.size(1)] {
    const double* first = std::exchange(next, next + channels);
    return std::vector<double>(first, next);
  };
  std::vector<TokenSums> sums(stacked.size());
  for (TokenSums& document : sums) document = {take(), take(), take(), take()};
  return sums;
}

}  // namespace

NeuronNorms MeasureNeurons(const at::Tensor& down, const at::Tensor& gain) {
  const auto options = down.options().dtype(at::kDouble);
  at::Tensor squared = at::zeros({down.size(1)}, options);
  at::Tensor gained = at::zeros({down.size(1)}, options);
  at::Tensor largest = at::zeros({down.size(1)}, options);
  for (int64_t row = 0; row < down.size(0); row += kWeightRows) {
    const int64_t end = std::min(row + kWeightRows, down.size(0));
    const at::Tensor weights = down.slice(0, row, end).to(at::kDouble);
    squared += weights.square().sum(0);
    at::Tensor written = weights;
    if (gain.defined()) {
      written = weights * gain.slice(0, row, end).to(at::kDouble).unsqueeze(1);
      gained += written.square().sum(0);
    }
    largest = at::maximum(largest, written.abs().amax(0));
  }
  return {.squared = ToVector(squared),
          .gained_squared = ToVector(gain.defined() ? gained : squared),
          .largest = ToVector(largest)};
}

std::vector<double> TokenWeights(const FfnActivation& activation, bool post_norm) {
  return WeightsOf(activation, post_norm);
}

std::vector<double> TokenWeights(const AttentionActivation& activation, bool post_norm) {
  return WeightsOf(activation, post_norm);
}

std::vector<double> TokenScales(const FfnActivation& activation, bool post_norm) {
  if (!post_norm) return {};
  std::vector<double> scales = SquaredRowNorms(activation.output);
  const auto hidden_size = static_cast<double>(activation.output.size(1));
  for (double& scale : scales) scale = std::sqrt(hidden_size * Reciprocal(scale));
  return scales;
}

std::vector<TokenSums> SumDocuments(const at::Tensor& neurons, const std::vector<double>& weights,
                                    std::span<const int64_t> offsets,
                                    const std::vector<double>& scales) {
  if (FitsKernel(neurons)) return SumInOnePass(neurons, weights, offsets, scales);
  return SumByOperators(neurons, weights, offsets, scales);
}

NeuronScores ScoreDocument(const NeuronNorms& norms, const TokenSums& sums, int64_t tokens) {
  const size_t channels = norms.squared.size();
  const auto count = static_cast<double>(tokens);
  NeuronScores scores{.relative = std::vector<double>(channels),
                      .paper = std::vector<double>(channels),
                      .activation = std::vector<double>(channels),
                      .peak = std::vector<double>(channels)};
  for (size_t k = 0; k < channels; ++k) {
    scores.relative[k] = norms.gained_squared[k] * sums.weighted[k] / count;
    scores.paper[k] = norms.squared[k] * sums.squared[k] / count;
    scores.activation[k] = sums.plain[k] / count;
    scores.peak[k] = norms.largest[k] * sums.peak[k];
  }
  return scores;
}

}  // namespace secateur
