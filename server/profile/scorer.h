// From a layer's activations and weights to the relevance of its neurons: the closed forms of
// ALGORITHM 2.1 and 2.4. Removing neuron k changes the sublayer's output at token t by a_k(t) w_k,
// so
//   squared Frobenius norm of the change over T tokens: ||w_k||^2 sum_t a_k(t)^2
//   relative, pre norm:                                 ||w_k||^2 sum_t a_k(t)^2 / ||h(t)||^2
//   relative, post norm with gain g (to first order):   ||g o w_k||^2 sum_t a_k(t)^2 d /
//   (||o(t)||^2 ||h(t)||^2)
//
// Float32 tensors on the CPU take one fused pass (token_sums.h) on libtorch's threads; all else
// goes through libtorch in the tensor's own type, at least float32. Results are double, on the CPU,
// and do not depend on the number of threads. libtorch's exceptions pass through: call under the
// guard of server/model/torch_guard.h. Pure functions. Internal to server/profile.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "server/model/activation_tap.h"
#include "server/model/config.h"

namespace secateur {

// What the weights of one layer contribute; vectors have one entry a neuron.
struct NeuronNorms {
  std::vector<double> squared;         // ||w_k||^2
  std::vector<double> gained_squared;  // ||g o w_k||^2; `squared` again where there is no post norm
  std::vector<double> largest;         // ||g o w_k||_inf; without a post norm ||w_k||_inf
};
// `down`: [d, neurons]; `gain`: [d], or undefined where there is no post norm.
NeuronNorms MeasureNeurons(const at::Tensor& down, const at::Tensor& gain);

// omega_t for each token, of either sublayer. 0 where h(t), or o(t) before a post norm, is 0:
// nothing is relative to it. NaN where they are not finite.
std::vector<double> TokenWeights(const FfnActivation& activation, bool post_norm);
std::vector<double> TokenWeights(const AttentionActivation& activation, bool post_norm);

// What turns a neuron's output at each token into what reaches the residual stream, the gain aside:
// sqrt(d) / ||o(t)|| before a post norm (0 where o(t) is 0). Empty where that is 1.
std::vector<double> TokenScales(const FfnActivation& activation, bool post_norm);

// One document's sums over its tokens; vectors have one entry a neuron.
struct TokenSums {
  std::vector<double> weighted;  // sum_t omega_t a(t)^2
  std::vector<double> squared;   // sum_t a(t)^2
  std::vector<double> plain;     // sum_t a(t)
  std::vector<double> peak;      // max_t scale_t |a(t)|
};
// Document i is rows [offsets[i], offsets[i+1]) of `neurons`, [tokens, neurons]; `weights` has an
// entry for each row, and so has `scales`, unless it is empty: then they are 1. REQUIRES: no
// document is empty, offsets lie inside.
std::vector<TokenSums> SumDocuments(const at::Tensor& neurons, const std::vector<double>& weights,
                                    std::span<const int64_t> offsets,
                                    const std::vector<double>& scales = {});

// The statistics of one document, by profile.h.
struct NeuronScores {
  std::vector<double> relative;    // s_k^2
  std::vector<double> paper;       // s_k^2
  std::vector<double> activation;  // mean over tokens of a_k
  std::vector<double> peak;        // as LayerStatistics::peak
};
NeuronScores ScoreDocument(const NeuronNorms& norms, const TokenSums& sums, int64_t tokens);

}  // namespace secateur
