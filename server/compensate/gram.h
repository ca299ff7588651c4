// Second moments of what a layer's down_proj reads, its FFN activations, or of what its o_proj
// reads, the mixed values of its heads (ALGORITHM 5.2): all that second-order selection and least
// squares need to know of the text.
//
// G = sum_t q_t omega_t a(t) a(t)', q_t the token's weight. For W' in place of the projection W,
// the sum over tokens of q_t times the squared change of the sublayer's output is tr((W' - W) G (W'
// - W)'). omega_t = 1; where a norm follows the sublayer (Gemma), omega_t = d / ||o(t)||^2 and W is
// taken times that norm's gain, so that the change is one of the residual stream, to first order
// (ALGORITHM 2.4). "Channels" below are FFN neurons, or channels of heads. Floating: exact to about
// 1e-6 relative; for one order of batches the result is the same.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "server/compensate/weighted_batch.h"
#include "server/model/activation_tap.h"

namespace secateur {

struct Gram {
  at::Tensor moments;  // [channels, channels], float32, symmetric, on the device
  // Mean of the diagonal without the first token of each sequence, which carries the attention sink
  // and is far larger than all others: what ridges are measured by.
  double ordinary_diagonal = 0;
  // sum_t q_t ||h(t)||^2 without first tokens: what makes the errors of layers comparable.
  double residual = 0;
  at::Tensor sum;     // [channels], float32, on the device: sum_t q_t a(t)
  double weight = 0;  // sum_t q_t
};

// One sublayer's sum over batches. One thread at a time.
class GramSum {
 public:
  explicit GramSum(bool post_norm) : post_norm_(post_norm) {}
  // DATA_LOSS for activations that are not finite.
  absl::Status Add(const WeightedBatch& batch, const FfnActivation& activation);
  absl::Status Add(const WeightedBatch& batch, const AttentionActivation& activation);
  // Of all that was added; INVALID_ARGUMENT if that is nothing.
  absl::Status Finish(Gram& gram);

 private:
  // inputs: [tokens, channels]; output, residual: [tokens, hidden size].
  absl::Status AddRows(const WeightedBatch& batch, int64_t layer, const at::Tensor& inputs,
                       const at::Tensor& output, const at::Tensor& residual);

  const bool post_norm_;
  Gram sum_;
};

// The token weights of a batch as a tensor, [tokens], float32, on `device`.
at::Tensor TokenWeights(const WeightedBatch& batch, const at::Device& device);

// What a token's squared change of a sublayer's output counts where a norm follows: d / ||o(t)||^2,
// [tokens]; 0 for an output of zeros. output: [tokens, hidden size].
at::Tensor PostNormWeights(const at::Tensor& output);

// a + weight b, as far as moments go; `b` may be without any.
Gram Mixed(const Gram& a, const Gram& b, double weight);

// A projection as errors see it, [hidden size, channels], float64: W, times the gain of the norm
// that follows, if any (`gain`: [hidden size] or undefined).
at::Tensor Gained(const at::Tensor& projection, const at::Tensor& gain);

}  // namespace secateur
