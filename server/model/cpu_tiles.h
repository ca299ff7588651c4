// Matrix tiles in registers, for cpu_attention.cc: a template over the instruction set, inlined
// into one function compiled for each set. Nothing here may be called outside such a function.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#define SECATEUR_INLINE inline __attribute__((always_inline))

namespace secateur::cpu {

// What differs between instruction sets: the length of a vector and how many rows of a product are
// kept in registers at once (rows times two vectors of sums).
struct Wide {
  static constexpr int64_t kLanes = 16;
  static constexpr int64_t kRows = 8;
  using Vector = float __attribute__((vector_size(64), may_alias));
  using Bits = int32_t __attribute__((vector_size(64), may_alias));
};
struct Medium {
  static constexpr int64_t kLanes = 8;
  static constexpr int64_t kRows = 4;
  using Vector = float __attribute__((vector_size(32), may_alias));
  using Bits = int32_t __attribute__((vector_size(32), may_alias));
};
struct Narrow {
  static constexpr int64_t kLanes = 4;
  static constexpr int64_t kRows = 4;
  using Vector = float __attribute__((vector_size(16), may_alias));
  using Bits = int32_t __attribute__((vector_size(16), may_alias));
};

// A panel is a matrix [depth, kPanel], rows behind one another.
template <class Isa>
constexpr int64_t kPanel = 2 * Isa::kLanes;

constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Vectors cross function boundaries by reference: how they are passed by value depends on the
// instruction set.
template <class Isa>
SECATEUR_INLINE typename Isa::Vector& VectorAt(float* at) {
  return *reinterpret_cast<typename Isa::Vector*>(at);
}

template <class Isa>
SECATEUR_INLINE const typename Isa::Vector& VectorAt(const float* at) {
  return *reinterpret_cast<const typename Isa::Vector*>(at);
}

// x = e^x as in cpu_kernels.cc, for x <= 0.
template <class Isa>
SECATEUR_INLINE void ExpOfNegative(typename Isa::Vector& x) {
  using Vector = typename Isa::Vector;
  using Bits = typename Isa::Bits;
  constexpr float kMagic = 12582912.0F;
  const Vector least = Vector{} - 87.0F;
  x = x < least ? least : x;
  const Vector shifted = x * 1.44269504088896341F + kMagic;
  const Vector n = shifted - kMagic;
  const Vector r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  Vector p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const Bits exponent = reinterpret_cast<Bits>(shifted) - std::bit_cast<int32_t>(kMagic);
  x = p * reinterpret_cast<Vector>((exponent + 127) << 23);
}

// c [kRows, kPanel] = a [kRows, depth] times panel [depth, kPanel].
template <class Isa>
SECATEUR_INLINE void MultiplyTile(const float* a, int64_t a_stride, const float* panel,
                                  int64_t depth, float* c, int64_t c_stride) {
  using Vector = typename Isa::Vector;
  Vector sums[Isa::kRows][2] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const Vector first = VectorAt<Isa>(panel + k * kPanel<Isa>);
    const Vector second = VectorAt<Isa>(panel + k * kPanel<Isa> + Isa::kLanes);
#pragma GCC unroll 8
    for (int64_t row = 0; row < Isa::kRows; ++row) {
      const float factor = a[row * a_stride + k];
      sums[row][0] += first * factor;
      sums[row][1] += second * factor;
    }
  }
#pragma GCC unroll 8
  for (int64_t row = 0; row < Isa::kRows; ++row) {
    VectorAt<Isa>(c + row * c_stride) = sums[row][0];
    VectorAt<Isa>(c + row * c_stride + Isa::kLanes) = sums[row][1];
  }
}

// Panel j: rows of head_dim channels, columns the keys j kPanel ...; zero past the last key.
template <class Isa>
SECATEUR_INLINE void PackKeys(const float* keys, int64_t stride, int64_t length, int64_t head_dim,
                              float* panels) {
  constexpr int64_t kWidth = kPanel<Isa>;
  for (int64_t begin = 0; begin < length; begin += kWidth) {
    float* panel = panels + begin * head_dim;
    const int64_t count = std::min(kWidth, length - begin);
    if (count < kWidth) std::fill(panel, panel + kWidth * head_dim, 0.0F);
    for (int64_t key = 0; key < count; ++key) {
      const float* row = keys + (begin + key) * stride;
      for (int64_t channel = 0; channel < head_dim; ++channel) {
        panel[channel * kWidth + key] = row[channel];
      }
    }
  }
}

// Panel j: a row for each key, columns the channels j kPanel ...; zero past the last channel.
template <class Isa>
SECATEUR_INLINE void PackValues(const float* values, int64_t stride, int64_t length,
                                int64_t head_dim, float* panels) {
  constexpr int64_t kWidth = kPanel<Isa>;
  for (int64_t begin = 0; begin < head_dim; begin += kWidth) {
    float* panel = panels + begin * length;
    const int64_t count = std::min(kWidth, head_dim - begin);
    for (int64_t key = 0; key < length; ++key) {
      const float* row = values + key * stride + begin;
      float* target = panel + key * kWidth;
      std::copy(row, row + count, target);
      std::fill(target + count, target + kWidth, 0.0F);
    }
  }
}

// scores[first .. last] become e^(score - max), the rest of [0, width) zero; returns their sum.
// width is a multiple of kLanes.
template <class Isa>
SECATEUR_INLINE float Softmax(float* scores, int64_t first, int64_t last, int64_t width) {
  using Vector = typename Isa::Vector;
  constexpr int64_t kLanes = Isa::kLanes;
  const float hidden = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + first, hidden);
  std::fill(scores + last + 1, scores + width, hidden);
  Vector most = Vector{} + hidden;
  for (int64_t i = 0; i < width; i += kLanes) {
    const Vector x = VectorAt<Isa>(scores + i);
    most = x > most ? x : most;
  }
  float largest = most[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) largest = std::max(largest, most[lane]);
  Vector sums = {};
  for (int64_t i = 0; i < width; i += kLanes) {
    const Vector x = VectorAt<Isa>(scores + i);
    Vector seen = x - largest;
    ExpOfNegative<Isa>(seen);
    const Vector kept = x == hidden ? Vector{} : seen;
    VectorAt<Isa>(scores + i) = kept;
    sums += kept;
  }
  float sum = 0.0F;
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  return sum;
}

}  // namespace secateur::cpu
