#include "server/model/cpu_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <ATen/Parallel.h>

// One copy of a function for each instruction set, chosen when the program starts. The loops are
// written so that compilers vectorize them: `omp simd` grants the reordering of sums. What chooses
// runs before the loader has bound a function, and the thread sanitizer would have it call one.
#if defined(__x86_64__) && defined(__ELF__) && !defined(_GLIBCXX_TSAN)
#define SECATEUR_VECTORIZED __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define SECATEUR_VECTORIZED
#endif

namespace secateur::cpu {
namespace {

// Rows a thread takes at least, so that starting it pays.
constexpr int64_t kGrain = 16;

// e^x to 2 units in the last place; x is clamped to where the result is a normal number.
// 2^round(x / ln 2) from the exponent bits, times a polynomial for the rest.
inline float Exp(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  x = x > 88.0F ? 88.0F : x;
  x = x < -87.0F ? -87.0F : x;
  const float shifted = x * 1.44269504088896341F + kMagic;
  const float n = shifted - kMagic;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kMagic);
  return p * std::bit_cast<float>((exponent + 127U) << 23U);
}

inline float Sigmoid(float x) { return 1.0F / (1.0F + Exp(-x)); }

// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, by (1 + tanh(u)) / 2 = sigmoid(2u).
inline float GeluTanh(float x) {
  constexpr float kTwiceSqrtTwoOverPi = 1.5957691216057308F;
  return x * Sigmoid(kTwiceSqrtTwoOverPi * (x + 0.044715F * x * x * x));
}

inline float InverseRms(const float* x, int64_t width, float eps) {
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < width; ++i) sum += x[i] * x[i];
  return 1.0F / std::sqrt(sum / static_cast<float>(width) + eps);
}

SECATEUR_VECTORIZED
void NormRow(const float* x, const Norm& norm, int64_t width, float* y) {
  const float scale = InverseRms(x, width, norm.eps);
  const float* weight = norm.weight;
  const float offset = norm.offset;
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) y[i] = x[i] * scale * (offset + weight[i]);
}

SECATEUR_VECTORIZED
void AddRow(const float* x, const float* delta, int64_t width, float* sum) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) sum[i] = x[i] + delta[i];
}

SECATEUR_VECTORIZED
void AddNormedRow(const float* x, const float* delta, const Norm& norm, int64_t width, float* sum) {
  const float scale = InverseRms(delta, width, norm.eps);
  const float* weight = norm.weight;
  const float offset = norm.offset;
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) sum[i] = x[i] + delta[i] * scale * (offset + weight[i]);
}

SECATEUR_VECTORIZED
void SiluRow(float* gate, const float* up, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) gate[i] = gate[i] * Sigmoid(gate[i]) * up[i];
}

SECATEUR_VECTORIZED
void GeluTanhRow(float* gate, const float* up, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) gate[i] = GeluTanh(gate[i]) * up[i];
}

SECATEUR_VECTORIZED
void ScaleRow(float* x, const float* factor, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) x[i] *= factor[i];
}

SECATEUR_VECTORIZED
void RotateHead(float* x, const float* cos, const float* sin, int64_t half) {
  float* y = x + half;
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float first = x[i] * cos[i] - y[i] * sin[i];
    y[i] = y[i] * cos[i] + x[i] * sin[i];
    x[i] = first;
  }
}

SECATEUR_VECTORIZED
float MaxOfRow(const float* x, int64_t width) {
  float most = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < width; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

SECATEUR_VECTORIZED
float SumOfExp(const float* x, float shift, int64_t width) {
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < width; ++i) sum += Exp(x[i] - shift);
  return sum;
}

double LogSumExp(const float* x, int64_t width) {
  constexpr int64_t kBlock = 4096;  // floats summed in float32 before float64 takes over
  const float most = MaxOfRow(x, width);
  double sum = 0.0;
  for (int64_t begin = 0; begin < width; begin += kBlock) {
    sum += SumOfExp(x + begin, most, std::min(kBlock, width - begin));
  }
  return static_cast<double>(most) + std::log(sum);
}

template <class Function>
void ForEachRow(int64_t rows, const Function& function) {
  at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) function(i);
  });
}

}  // namespace

void NormRows(const float* x, const Norm& norm, int64_t rows, int64_t width, float* y) {
  ForEachRow(rows, [&](int64_t i) { NormRow(x + i * width, norm, width, y + i * width); });
}

void AddNormRows(const float* x, const float* delta, const Norm& post, const Norm& pre,
                 int64_t rows, int64_t width, float* sum, float* y) {
  ForEachRow(rows, [&](int64_t i) {
    const int64_t at = i * width;
    if (post.weight == nullptr) {
      AddRow(x + at, delta + at, width, sum + at);
    } else {
      AddNormedRow(x + at, delta + at, post, width, sum + at);
    }
    if (y != nullptr) NormRow(sum + at, pre, width, y + at);
  });
}

void GateRows(float* gate, const float* up, const float* kept, Activation activation, int64_t rows,
              int64_t width) {
  const auto activate = activation == Activation::kSilu ? SiluRow : GeluTanhRow;
  ForEachRow(rows, [&](int64_t i) {
    activate(gate + i * width, up + i * width, width);
    if (kept != nullptr) ScaleRow(gate + i * width, kept, width);
  });
}

void RotateRows(float* x, int64_t stride, int64_t heads, int64_t head_dim, const Norm& norm,
                const Rotary& rotary, int64_t tokens) {
  const int64_t half = head_dim / 2;
  ForEachRow(tokens, [&](int64_t token) {
    const int64_t row = rotary.positions[token] * half;
    for (int64_t head = 0; head < heads; ++head) {
      float* values = x + token * stride + head * head_dim;
      if (norm.weight != nullptr) NormRow(values, norm, head_dim, values);
      RotateHead(values, rotary.cos + row, rotary.sin + row, half);
    }
  });
}

void LogSumExpRows(const float* x, int64_t rows, int64_t width, double* result) {
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) result[i] = LogSumExp(x + i * width, width);
  });
}

}  // namespace secateur::cpu
