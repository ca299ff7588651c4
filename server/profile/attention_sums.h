// The reductions over tokens that scores of attention need, on float32 rows in this machine's
// memory. No libtorch.
//
// A call looks at one KV head of one document and the query heads that read it ("the group"), on
// one thread and in a fixed order: float32 over 64 tokens, then double. Pure functions. Internal to
// server/profile.
#pragma once

#include <cstdint>

#include "server/profile/token_sums.h"

namespace secateur {

// Pairs of the group's heads h <= h', in the order (0, 0), (0, 1) ... (1, 1), (1, 2) ...
inline int64_t HeadPairs(int64_t heads) { return heads * (heads + 1) / 2; }

// sums[pair * head_dim + j] = sum_t z_hj(t) z_h'j(t). `rows`: z, [tokens, heads * head_dim].
void SumHeadProducts(const TokenRows& rows, int64_t heads, int64_t head_dim, double* sums);

// Values whose means under a map of attention make the variances below: for token t, at
// out + t * out_stride, k - c for all channels, then (k - c)^2, then (k_p - c_p)(k_q - c_q) of the
// pairs p < head_dim / 2, q = p + head_dim / 2; c is the document's mean, which changes no variance
// but keeps its terms small. `keys`: [tokens, head_dim].
constexpr int64_t MomentWidth(int64_t head_dim) { return head_dim / 2 * 5; }
void MakeMoments(const TokenRows& keys, int64_t head_dim, float* out, int64_t out_stride);

// sums[p] = sum over tokens and the group's heads of the variance, under their map of attention, of
// q_p k_p + q_q k_q. `queries`: [tokens, heads * head_dim]; `means` of the values above:
// [tokens, heads * MomentWidth(head_dim)].
void SumLogitVariances(const TokenRows& queries, const TokenRows& means, int64_t heads,
                       int64_t head_dim, double* sums);

}  // namespace secateur
