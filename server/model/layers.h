// The steps of a decoder layer on packed rows [tokens, width]. Each writes into tensors that the
// caller owns: a pass makes its buffers once and every layer uses them again.
//
// float32 on the CPU runs in fused passes (cpu_kernels.h), everything else in ATen's operators. All
// tensors are contiguous unless said otherwise, on one device and of one type. Inside GuardTorch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "server/model/config.h"
#include "server/model/rotary.h"
#include "server/model/weights.h"

namespace secateur {

// rms norm: x / sqrt(mean(x^2) + eps) * (offset + weight). An undefined weight: no norm.
struct NormSpec {
  at::Tensor weight;
  double offset = 0.0;
  double eps = 0.0;
};

// The gain of a norm behind a sublayer, whose weight is `norm`: [hidden size], float64; undefined
// in families that have none there.
at::Tensor PostNormGain(const ModelConfig& config, const at::Tensor& norm);

// y = norm(x).
void Normalize(const at::Tensor& x, const NormSpec& norm, at::Tensor& y);

// sum = x + post(delta); y = pre(sum) unless `pre` has no weight. sum may be x, y may be delta.
void AddNormalized(const at::Tensor& x, const at::Tensor& delta, const NormSpec& post,
                   const NormSpec& pre, at::Tensor& sum, at::Tensor& y);

// out = x weight^T + bias. `out` may be columns of a wider tensor.
void Project(const at::Tensor& x, const LinearWeights& linear, at::Tensor& out);

// The same for several weights: out holds their columns behind one another. One product where the
// weights lie behind one another in memory, as LoadLayer leaves query, key and value.
void ProjectTogether(const at::Tensor& x, std::span<const LinearWeights* const> linears,
                     at::Tensor& out);

// gate = activation(gate) * up * kept; an undefined `kept` is all ones.
void Gate(at::Tensor& gate, const at::Tensor& up, const at::Tensor& kept, Activation activation);

// Norms and rotates heads in place. x is [tokens, heads * head_dim], possibly columns of a wider
// tensor; positions [tokens], int64, rows of the tables.
void NormAndRotate(at::Tensor& x, int64_t head_dim, const NormSpec& norm,
                   const at::Tensor& positions, const RotaryTables& tables);

// Causal attention of each sequence to itself; a position sees `window` tokens, itself included
// (0: all before it). query is [tokens, heads * head_dim], key [tokens, kv_heads * head_dim], value
// [tokens, kv_heads * n] and out [tokens, heads * n] for any n; all but `out` may be columns of a
// wider tensor.
void Attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
            const std::vector<int64_t>& offsets, const ModelConfig& config, int64_t window,
            at::Tensor& out);

// Attention of one new token of each sequence, row i of `query` and `out`, to all it has had,
// itself last: keys[i] and values[i] are [tokens, kv_heads * head_dim].
void AttendNext(const at::Tensor& query, const std::vector<at::Tensor>& keys,
                const std::vector<at::Tensor>& values, const ModelConfig& config, int64_t window,
                at::Tensor& out);

}  // namespace secateur
