#include "server/profile/token_sums.h"

#include <algorithm>
#include <cmath>

#include "server/profile/simd.h"

namespace secateur {
namespace {

// Tokens whose sums are kept in float32: relative error at most 64 * 2^-24.
constexpr int64_t kTokenChunk = 64;
constexpr int64_t kLanes = 16;

struct BlockSums {
  float weighted[kChannelBlock];
  float squared[kChannelBlock];
  float plain[kChannelBlock];
  float peak[kChannelBlock];
};

// `rows` begins at the block's first channel.
SECATEUR_SIMD void SumChunk(const TokenRows& rows, const TokenFactors& factors, int64_t channels,
                            BlockSums& sums) {
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const float* row = rows.first + t * rows.stride;
    const float weight = factors.weights[t];
    const float scale = factors.scales == nullptr ? 1.0f : factors.scales[t];
    for (int64_t k = 0; k < channels; ++k) {
      const float value = row[k];
      const float square = value * value;
      const float magnitude = std::fabs(value) * scale;
      sums.weighted[k] += weight * square;
      sums.squared[k] += square;
      sums.plain[k] += value;
      sums.peak[k] = magnitude > sums.peak[k] ? magnitude : sums.peak[k];
    }
  }
}

void SumBlock(const TokenRows& rows, const TokenFactors& factors, int64_t begin, int64_t channels,
              const TokenSumTargets& targets) {
  std::fill_n(targets.weighted + begin, channels, 0.0);
  std::fill_n(targets.squared + begin, channels, 0.0);
  std::fill_n(targets.plain + begin, channels, 0.0);
  std::fill_n(targets.peak + begin, channels, 0.0);
  for (int64_t t = 0; t < rows.tokens; t += kTokenChunk) {
    const TokenRows chunk{.first = rows.first + t * rows.stride + begin,
                          .tokens = std::min(kTokenChunk, rows.tokens - t),
                          .stride = rows.stride};
    BlockSums sums = {};
    const float* scales = factors.scales == nullptr ? nullptr : factors.scales + t;
    SumChunk(chunk, {.weights = factors.weights + t, .scales = scales}, channels, sums);
    for (int64_t k = 0; k < channels; ++k) {
      targets.weighted[begin + k] += static_cast<double>(sums.weighted[k]);
      targets.squared[begin + k] += static_cast<double>(sums.squared[k]);
      targets.plain[begin + k] += static_cast<double>(sums.plain[k]);
      targets.peak[begin + k] =
          std::max(targets.peak[begin + k], static_cast<double>(sums.peak[k]));
    }
  }
}

}  // namespace

void SumTokens(const TokenRows& rows, const TokenFactors& factors, int64_t begin, int64_t end,
               const TokenSumTargets& targets) {
  for (int64_t block = begin; block < end; block += kChannelBlock) {
    SumBlock(rows, factors, block, std::min(kChannelBlock, end - block), targets);
  }
}

SECATEUR_SIMD double SquaredNorm(const float* values, int64_t count) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
  for (; i < count; ++i) lanes[i % kLanes] += static_cast<double>(values[i]) * values[i];
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

}  // namespace secateur
