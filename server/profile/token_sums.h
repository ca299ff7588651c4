// The reductions over tokens that a profile needs, on float32 rows in this machine's memory: one
// pass over a layer's activations. No libtorch.
//
// A channel's sums depend on its rows and weights alone, in a fixed order: float32 over 64 tokens,
// then double. How channels are divided among threads changes nothing, as long as the ranges begin
// at multiples of kChannelBlock. Pure functions. Internal to server/profile.
#pragma once

#include <cstdint>

namespace secateur {

inline constexpr int64_t kChannelBlock = 128;

// Token rows of one document: value of channel k at token t is first[t * stride + k].
struct TokenRows {
  const float* first = nullptr;
  int64_t tokens = 0;
  int64_t stride = 0;
};

// Factors of one document's tokens.
struct TokenFactors {
  const float* weights = nullptr;
  const float* scales = nullptr;  // null: all are 1
};

// Where the sums of one document go: pointers to arrays over channels.
struct TokenSumTargets {
  double* weighted = nullptr;  // sum_t weight(t) a(t)^2
  double* squared = nullptr;   // sum_t a(t)^2
  double* plain = nullptr;     // sum_t a(t)
  double* peak = nullptr;      // max_t scale(t) |a(t)|; not defined when a value is NaN, which
                               // shows in plain
};

// Writes the sums of channels [begin, end).
void SumTokens(const TokenRows& rows, const TokenFactors& factors, int64_t begin, int64_t end,
               const TokenSumTargets& targets);

// sum_i values[i]^2 in double.
double SquaredNorm(const float* values, int64_t count);

}  // namespace secateur
