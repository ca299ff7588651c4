#include "server/model/cpu_attention.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <new>

#include <ATen/Parallel.h>

#define SECATEUR_INLINE inline __attribute__((always_inline))

namespace secateur::cpu {
namespace {

// What differs between instruction sets: the length of a vector and how many rows of a product are
// kept in registers at once (rows times two vectors of sums). Everything below is a template over
// it, inlined into one function compiled for each set.
struct Wide {
  static constexpr int64_t kLanes = 16;
  static constexpr int64_t kRows = 8;
  using Vector = float __attribute__((vector_size(64)));
  using Bits = int32_t __attribute__((vector_size(64)));
};
struct Medium {
  static constexpr int64_t kLanes = 8;
  static constexpr int64_t kRows = 4;
  using Vector = float __attribute__((vector_size(32)));
  using Bits = int32_t __attribute__((vector_size(32)));
};
struct Narrow {
  static constexpr int64_t kLanes = 4;
  static constexpr int64_t kRows = 4;
  using Vector = float __attribute__((vector_size(16)));
  using Bits = int32_t __attribute__((vector_size(16)));
};

// A panel is a matrix [depth, kPanel], rows behind one another.
template <class Isa>
constexpr int64_t kPanel = 2 * Isa::kLanes;

constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// The part of a task that every thread keeps in memory of its own; each piece starts at a
// multiple of 64 bytes.
struct Scratch {
  float* keys = nullptr;     // panels of transposed keys
  float* values = nullptr;   // panels of values
  float* query = nullptr;    // [kRows, head_dim], scaled
  float* weights = nullptr;  // [kRows, keys]: scores, then what softmax makes of them
  float* mixed = nullptr;    // [kRows, head_dim rounded up]
};

constexpr std::align_val_t kAlignment{64};
struct AlignedDelete {
  void operator()(float* memory) const { operator delete[](memory, kAlignment); }
};

constexpr int64_t kWidestPanel = kPanel<Wide>;
constexpr int64_t kMostRows = Wide::kRows;

int64_t ScratchFloats(const AttentionShape& shape, int64_t length) {
  const int64_t keys = RoundUp(length, kWidestPanel);
  const int64_t width = RoundUp(shape.head_dim, kWidestPanel);
  return 2 * keys * width + kMostRows * (keys + 2 * width);
}

Scratch DivideScratch(float* memory, const AttentionShape& shape, int64_t length) {
  const int64_t keys = RoundUp(length, kWidestPanel);
  const int64_t width = RoundUp(shape.head_dim, kWidestPanel);
  Scratch scratch;
  scratch.keys = memory;
  scratch.values = scratch.keys + keys * width;
  scratch.query = scratch.values + keys * width;
  scratch.mixed = scratch.query + kMostRows * width;
  scratch.weights = scratch.mixed + kMostRows * width;
  return scratch;
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

// A sequence's rows of one key-value head and of the query heads that read it.
struct Task {
  const float* query = nullptr;
  const float* key = nullptr;
  const float* value = nullptr;
  float* out = nullptr;
  int64_t length = 0;
};

struct Strides {
  int64_t query = 0, key = 0, value = 0, out = 0;
};

// Rows t0 .. t0 + rows of one query head.
template <class Isa>
SECATEUR_INLINE void AttendRows(const float* query, float* out, const Strides& strides, int64_t t0,
                                int64_t length, const AttentionShape& shape,
                                const Scratch& scratch) {
  constexpr int64_t kWidth = kPanel<Isa>;
  const int64_t head_dim = shape.head_dim;
  const int64_t rows = std::min(Isa::kRows, length - t0);
  for (int64_t row = 0; row < Isa::kRows; ++row) {
    const float* from = query + std::min(t0 + row, length - 1) * strides.query;
    float* to = scratch.query + row * head_dim;
    for (int64_t i = 0; i < head_dim; ++i) to[i] = from[i] * shape.scale;
  }
  const int64_t last = t0 + rows - 1;
  const int64_t oldest = shape.window > 0 ? std::max<int64_t>(0, t0 - shape.window + 1) : 0;
  const int64_t begin = oldest / kWidth * kWidth;  // keys from here on, by whole panels
  const int64_t width = RoundUp(last + 1 - begin, kWidth);
  for (int64_t at = 0; at < width; at += kWidth) {
    MultiplyTile<Isa>(scratch.query, head_dim, scratch.keys + (begin + at) * head_dim, head_dim,
                      scratch.weights + at, width);
  }
  float sums[Isa::kRows];
  for (int64_t row = 0; row < Isa::kRows; ++row) {
    const int64_t token = std::min(t0 + row, last);
    const int64_t first = shape.window > 0 ? std::max<int64_t>(0, token - shape.window + 1) : 0;
    sums[row] = Softmax<Isa>(scratch.weights + row * width, first - begin, token - begin, width);
  }
  const int64_t padded = RoundUp(head_dim, kWidth);
  for (int64_t channel = 0; channel < head_dim; channel += kWidth) {
    MultiplyTile<Isa>(scratch.weights, width, scratch.values + channel * length + begin * kWidth,
                      last + 1 - begin, scratch.mixed + channel, padded);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float factor = 1.0F / sums[row];
    float* to = out + (t0 + row) * strides.out;
    for (int64_t i = 0; i < head_dim; ++i) to[i] = scratch.mixed[row * padded + i] * factor;
  }
}

template <class Isa>
SECATEUR_INLINE void RunTask(const Task& task, const Strides& strides, const AttentionShape& shape,
                             const Scratch& scratch) {
  PackKeys<Isa>(task.key, strides.key, task.length, shape.head_dim, scratch.keys);
  PackValues<Isa>(task.value, strides.value, task.length, shape.head_dim, scratch.values);
  for (int64_t head = 0; head < shape.heads / shape.kv_heads; ++head) {
    for (int64_t t0 = 0; t0 < task.length; t0 += Isa::kRows) {
      AttendRows<Isa>(task.query + head * shape.head_dim, task.out + head * shape.head_dim, strides,
                      t0, task.length, shape, scratch);
    }
  }
}

using TaskFunction = void (*)(const Task&, const Strides&, const AttentionShape&, const Scratch&);

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void RunWide(const Task& task, const Strides& strides,
                                                const AttentionShape& shape,
                                                const Scratch& scratch) {
  RunTask<Wide>(task, strides, shape, scratch);
}
__attribute__((target("avx2,fma"))) void RunMedium(const Task& task, const Strides& strides,
                                                   const AttentionShape& shape,
                                                   const Scratch& scratch) {
  RunTask<Medium>(task, strides, shape, scratch);
}
#endif
void RunNarrow(const Task& task, const Strides& strides, const AttentionShape& shape,
               const Scratch& scratch) {
  RunTask<Narrow>(task, strides, shape, scratch);
}

TaskFunction ChooseFunction() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return RunWide;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return RunMedium;
#endif
  return RunNarrow;
}

}  // namespace

int64_t AttentionScratchBytes(const AttentionShape& shape, int64_t length) {
  return ScratchFloats(shape, length) * static_cast<int64_t>(sizeof(float));
}

void CausalAttention(const HeadRows& query, const HeadRows& key, const HeadRows& value,
                     const std::vector<int64_t>& offsets, const AttentionShape& shape, float* out) {
  const Strides strides = {query.stride, key.stride, value.stride, shape.heads * shape.head_dim};
  const int64_t group = shape.heads / shape.kv_heads;
  std::vector<Task> tasks;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t t = offsets[i];
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      const int64_t column = head * shape.head_dim;
      tasks.push_back({.query = query.data + t * strides.query + group * column,
                       .key = key.data + t * strides.key + column,
                       .value = value.data + t * strides.value + column,
                       .out = out + t * strides.out + group * column,
                       .length = offsets[i + 1] - t});
    }
  }
  // The longest first, each to the next thread that is free.
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task& a, const Task& b) { return a.length > b.length; });
  static const TaskFunction run = ChooseFunction();
  const int64_t longest = tasks.empty() ? 0 : tasks.front().length;
  std::atomic<size_t> next{0};
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    const auto count = static_cast<size_t>(ScratchFloats(shape, longest));
    const std::unique_ptr<float[], AlignedDelete> memory(new (kAlignment) float[count]);
    const Scratch scratch = DivideScratch(memory.get(), shape, longest);
    for (size_t i = next++; i < tasks.size(); i = next++) run(tasks[i], strides, shape, scratch);
  });
}

}  // namespace secateur::cpu
