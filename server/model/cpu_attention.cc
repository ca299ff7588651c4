#include "server/model/cpu_attention.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include <ATen/Parallel.h>

#include "server/model/cpu_tiles.h"

namespace secateur::cpu {
namespace {

// The part of a task that every thread keeps in memory of its own; each piece starts at a
// multiple of 64 bytes.
struct Scratch {
  float* keys = nullptr;     // panels of transposed keys
  float* values = nullptr;   // panels of values
  float* query = nullptr;    // [kRows, head_dim], scaled
  float* weights = nullptr;  // [kRows, keys]: scores, then what softmax makes of them
  float* mixed = nullptr;    // [kRows, value_dim rounded up]
};

constexpr std::align_val_t kAlignment{64};
struct AlignedDelete {
  void operator()(float* memory) const { operator delete[](memory, kAlignment); }
};

constexpr int64_t kWidestPanel = kPanel<Wide>;
constexpr int64_t kMostRows = Wide::kRows;

int64_t ValueDim(const AttentionShape& shape) {
  return shape.value_dim == 0 ? shape.head_dim : shape.value_dim;
}

int64_t ScratchFloats(const AttentionShape& shape, int64_t length) {
  const int64_t keys = RoundUp(length, kWidestPanel);
  const int64_t width =
      RoundUp(shape.head_dim, kWidestPanel) + RoundUp(ValueDim(shape), kWidestPanel);
  return keys * width + kMostRows * (keys + width);
}

Scratch DivideScratch(float* memory, const AttentionShape& shape, int64_t length) {
  const int64_t keys = RoundUp(length, kWidestPanel);
  const int64_t width = RoundUp(shape.head_dim, kWidestPanel);
  const int64_t value_width = RoundUp(ValueDim(shape), kWidestPanel);
  Scratch scratch;
  scratch.keys = memory;
  scratch.values = scratch.keys + keys * width;
  scratch.query = scratch.values + keys * value_width;
  scratch.mixed = scratch.query + kMostRows * width;
  scratch.weights = scratch.mixed + kMostRows * value_width;
  return scratch;
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
  const int64_t value_dim = ValueDim(shape);
  const int64_t padded = RoundUp(value_dim, kWidth);
  for (int64_t channel = 0; channel < value_dim; channel += kWidth) {
    MultiplyTile<Isa>(scratch.weights, width, scratch.values + channel * length + begin * kWidth,
                      last + 1 - begin, scratch.mixed + channel, padded);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float factor = 1.0F / sums[row];
    float* to = out + (t0 + row) * strides.out;
    for (int64_t i = 0; i < value_dim; ++i) to[i] = scratch.mixed[row * padded + i] * factor;
  }
}

template <class Isa>
SECATEUR_INLINE void RunTask(const Task& task, const Strides& strides, const AttentionShape& shape,
                             const Scratch& scratch) {
  PackKeys<Isa>(task.key, strides.key, task.length, shape.head_dim, scratch.keys);
  PackValues<Isa>(task.value, strides.value, task.length, ValueDim(shape), scratch.values);
  for (int64_t head = 0; head < shape.heads / shape.kv_heads; ++head) {
    for (int64_t t0 = 0; t0 < task.length; t0 += Isa::kRows) {
      AttendRows<Isa>(task.query + head * shape.head_dim, task.out + head * ValueDim(shape),
                      strides, t0, task.length, shape, scratch);
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

TaskFunction FunctionFor(InstructionSet set) {
  switch (set) {
#if defined(__x86_64__)
    case InstructionSet::kAvx512:
      return RunWide;
    case InstructionSet::kAvx2:
      return RunMedium;
#endif
    default:
      return RunNarrow;
  }
}

}  // namespace

std::vector<InstructionSet> SupportedInstructionSets() {
  std::vector<InstructionSet> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) sets.push_back(InstructionSet::kAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back(InstructionSet::kAvx2);
  }
#endif
  sets.push_back(InstructionSet::kBaseline);
  return sets;
}

int64_t AttentionScratchBytes(const AttentionShape& shape, int64_t length) {
  return ScratchFloats(shape, length) * static_cast<int64_t>(sizeof(float));
}

void CausalAttention(const HeadRows& query, const HeadRows& key, const HeadRows& value,
                     const std::vector<int64_t>& offsets, const AttentionShape& shape, float* out,
                     std::optional<InstructionSet> set) {
  static const InstructionSet best = SupportedInstructionSets().front();
  const TaskFunction run = FunctionFor(set.value_or(best));
  const int64_t value_dim = ValueDim(shape);
  const Strides strides = {query.stride, key.stride, value.stride, shape.heads * value_dim};
  const int64_t group = shape.heads / shape.kv_heads;
  std::vector<Task> tasks;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t t = offsets[i];
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      const int64_t column = head * shape.head_dim;
      tasks.push_back({.query = query.data + t * strides.query + group * column,
                       .key = key.data + t * strides.key + column,
                       .value = value.data + t * strides.value + head * value_dim,
                       .out = out + t * strides.out + group * head * value_dim,
                       .length = offsets[i + 1] - t});
    }
  }
  // The longest first, each to the next thread that is free.
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task& a, const Task& b) { return a.length > b.length; });
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
