// Second moments of a layer's FFN activations (ALGORITHM 5.2): all that second-order selection and
// least squares need to know of the text.
//
// G = sum_t q_t omega_t a(t) a(t)', q_t the token's weight. For W' in place of down_proj W, the sum
// over tokens of q_t times the squared change of the layer's output is tr((W' - W) G (W' - W)').
// omega_t = 1; where a norm follows the FFN (Gemma), omega_t = d / ||o(t)||^2 and W is taken times
// that norm's gain, so that the change is one of the residual stream, to first order (ALGORITHM
// 2.4). Floating: exact to about 1e-6 relative; for one order of batches the result is the same.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "server/compensate/weighted_batch.h"
#include "server/model/activation_tap.h"

namespace secateur {

struct Gram {
  at::Tensor moments;  // [neurons, neurons], float32, symmetric, on the device
  // Mean of the diagonal without the first token of each sequence, which carries the attention sink
  // and is far larger than all others: what ridges are measured by.
  double ordinary_diagonal = 0;
  // sum_t q_t ||h(t)||^2 without first tokens: what makes the errors of layers comparable.
  double residual = 0;
  at::Tensor sum;     // [neurons], float32, on the device: sum_t q_t a(t)
  double weight = 0;  // sum_t q_t
};

// One layer's sum over batches. One thread at a time.
class GramSum {
 public:
  explicit GramSum(bool post_norm) : post_norm_(post_norm) {}
  // DATA_LOSS for activations that are not finite.
  absl::Status Add(const WeightedBatch& batch, const FfnActivation& activation);
  // Of all that was added; INVALID_ARGUMENT if that is nothing.
  absl::Status Finish(Gram& gram);

 private:
  const bool post_norm_;
  Gram sum_;
};

// The token weights of a batch as a tensor, [tokens], float32, on `device`.
at::Tensor TokenWeights(const WeightedBatch& batch, const at::Device& device);

// What a token's squared change of the FFN's output counts where a norm follows: d / ||o(t)||^2,
// [tokens]; 0 for an output of zeros.
at::Tensor PostNormWeights(const FfnActivation& activation);

// a + weight b, as far as moments go; `b` may be without any.
Gram Mixed(const Gram& a, const Gram& b, double weight);

// down_proj as errors see it, [hidden size, neurons], float64: W, times the gain of the norm that
// follows, if any (`gain`: [hidden size] or undefined).
at::Tensor GainedDown(const at::Tensor& down, const at::Tensor& gain);

}  // namespace secateur
