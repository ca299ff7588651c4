#include "server/profile/group_scorer.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "server/model/layers.h"

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/profile/scorer.h"

namespace secateur {
namespace {

// What rounding may take off a score, as a share of what it is at most.
constexpr double kRounding = 1e-4;

// sqrt(omega_t / T) of each token: the moments are the product of rows times this with themselves.
at::Tensor TokenFactors(const AttentionActivation& activation, bool post_norm,
                        std::span<const int64_t> offsets) {
  std::vector<double> factors = TokenWeights(activation, post_norm);
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const auto tokens = static_cast<double>(offsets[i + 1] - offsets[i]);
    for (int64_t t = offsets[i]; t < offsets[i + 1]; ++t) factors[static_cast<size_t>(t)] /= tokens;
  }
  return at::tensor(factors, at::kDouble).sqrt().to(activation.heads.device(), at::kFloat);
}

// <columns' columns, rows' rows>, and the product of the traces, which it is at most.
at::Tensor ScoreAndBound(const at::Tensor& columns, const at::Tensor& rows) {
  // Made for each block, which costs what the moments of as many tokens as the hidden size do: to
  // keep them takes (H/G e)^2 floats a group, 268 MB for Llama-3-8B.
  const at::Tensor weights = columns.t().mm(columns);
  const at::Tensor moments = rows.t().mm(rows);
  return at::stack({(weights * moments).sum(at::kDouble),
                    weights.trace().to(at::kDouble) * moments.trace().to(at::kDouble)});
}

absl::StatusOr<double> Checked(double score, double bound, int64_t group) {
  if (std::isfinite(score) && score >= -kRounding * bound) return std::max(score, 0.0);
  return absl::DataLossError(StrCat("KV head group ", group, ": the score is ", score,
                                    "; expected a finite number that is not negative"));
}

}  // namespace

absl::StatusOr<std::vector<double>> ScoreGroups(const ModelConfig& config,
                                                const LayerWeights& weights,
                                                std::span<const int64_t> offsets,
                                                const AttentionActivation& activation) {
  const int64_t width = config.num_heads / config.num_kv_heads * config.head_dim;
  const at::Tensor factors = TokenFactors(activation, config.post_norms, offsets).unsqueeze(1);
  const at::Tensor gain = PostNormGain(config, weights.post_attention_norm);
  std::vector<at::Tensor> results;
  for (int64_t group = 0; group < config.num_kv_heads; ++group) {
    at::Tensor columns = weights.output.weight.narrow(1, group * width, width).to(at::kFloat);
    if (gain.defined()) columns = columns * gain.to(at::kFloat).unsqueeze(1);
    const at::Tensor rows = activation.heads.narrow(1, group * width, width).to(at::kFloat);
    results.push_back(ScoreAndBound(columns, rows * factors));
  }
  // One copy off the device for all groups.
  const at::Tensor values = at::stack(results).to(at::kCPU);
  std::vector<double> scores;
  for (int64_t group = 0; group < config.num_kv_heads; ++group) {
    ASSIGN_OR_RETURN(const double score, Checked(values[group][0].item<double>(),
                                                 values[group][1].item<double>(), group));
    scores.push_back(score);
  }
  return scores;
}

}  // namespace secateur
