#include "server/profile/attention_sums.h"

#include <algorithm>
#include <vector>

#include "server/profile/simd.h"

namespace secateur {
namespace {

// Tokens whose sums are kept in float32.
constexpr int64_t kTokenChunk = 64;

SECATEUR_SIMD void AddProducts(const float* a, const float* b, int64_t tokens, int64_t stride,
                               int64_t channels, float* sums) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < channels; ++j) sums[j] += a[t * stride + j] * b[t * stride + j];
  }
}

SECATEUR_SIMD void AddVariances(const float* query, const float* mean, int64_t pairs, float* sums) {
  const float* query_q = query + pairs;
  const float* mean_q = mean + pairs;
  const float* square_p = mean + 2 * pairs;
  const float* square_q = mean + 3 * pairs;
  const float* product = mean + 4 * pairs;
  for (int64_t p = 0; p < pairs; ++p) {
    const float variance_p = square_p[p] - mean[p] * mean[p];
    const float variance_q = square_q[p] - mean_q[p] * mean_q[p];
    const float covariance = product[p] - mean[p] * mean_q[p];
    sums[p] += query[p] * query[p] * variance_p + query_q[p] * query_q[p] * variance_q +
               2 * query[p] * query_q[p] * covariance;
  }
}

SECATEUR_SIMD void MakeMomentRow(const float* key, const float* center, int64_t pairs, float* out) {
  for (int64_t j = 0; j < 2 * pairs; ++j) {
    const float centered = key[j] - center[j];
    out[j] = centered;
    out[2 * pairs + j] = centered * centered;
  }
  for (int64_t p = 0; p < pairs; ++p) out[4 * pairs + p] = out[p] * out[pairs + p];
}

// Adds `chunk` to `sums` and clears it.
void Drain(std::vector<float>& chunk, double* sums) {
  for (size_t i = 0; i < chunk.size(); ++i) sums[i] += static_cast<double>(chunk[i]);
  std::fill(chunk.begin(), chunk.end(), 0.0F);
}

std::vector<float> MeanRow(const TokenRows& rows, int64_t channels) {
  std::vector<double> sums(static_cast<size_t>(channels));
  for (int64_t t = 0; t < rows.tokens; ++t) {
    for (int64_t j = 0; j < channels; ++j) {
      sums[static_cast<size_t>(j)] += static_cast<double>(rows.first[t * rows.stride + j]);
    }
  }
  for (double& sum : sums) sum /= static_cast<double>(rows.tokens);
  return {sums.begin(), sums.end()};
}

}  // namespace

void SumHeadProducts(const TokenRows& rows, int64_t heads, int64_t head_dim, double* sums) {
  std::fill_n(sums, HeadPairs(heads) * head_dim, 0.0);
  std::vector<float> chunk(static_cast<size_t>(head_dim));
  for (int64_t begin = 0; begin < rows.tokens; begin += kTokenChunk) {
    const float* first = rows.first + begin * rows.stride;
    const int64_t tokens = std::min(kTokenChunk, rows.tokens - begin);
    double* target = sums;
    for (int64_t a = 0; a < heads; ++a) {
      for (int64_t b = a; b < heads; ++b, target += head_dim) {
        AddProducts(first + a * head_dim, first + b * head_dim, tokens, rows.stride, head_dim,
                    chunk.data());
        Drain(chunk, target);
      }
    }
  }
}

void MakeMoments(const TokenRows& keys, int64_t head_dim, float* out, int64_t out_stride) {
  const std::vector<float> center = MeanRow(keys, head_dim);
  for (int64_t t = 0; t < keys.tokens; ++t) {
    MakeMomentRow(keys.first + t * keys.stride, center.data(), head_dim / 2, out + t * out_stride);
  }
}

void SumLogitVariances(const TokenRows& queries, const TokenRows& means, int64_t heads,
                       int64_t head_dim, double* sums) {
  const int64_t pairs = head_dim / 2;
  std::fill_n(sums, pairs, 0.0);
  std::vector<float> chunk(static_cast<size_t>(pairs));
  for (int64_t begin = 0; begin < queries.tokens; begin += kTokenChunk) {
    const int64_t end = std::min(begin + kTokenChunk, queries.tokens);
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t head = 0; head < heads; ++head) {
        AddVariances(queries.first + t * queries.stride + head * head_dim,
                     means.first + t * means.stride + head * MomentWidth(head_dim), pairs,
                     chunk.data());
      }
    }
    Drain(chunk, sums);
  }
  // What rounding leaves of a variance that is nothing may be below it.
  for (int64_t p = 0; p < pairs; ++p) sums[p] = sums[p] < 0 ? 0 : sums[p];
}

}  // namespace secateur
