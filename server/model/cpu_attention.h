// Causal attention of packed sequences to themselves, in float32 on the CPU. Made for the lengths
// that documents have (tens to a few thousand tokens), where libtorch's own attention spends most
// of its time on copies of grouped heads and on small matrix products.
//
// For each key-value head of each sequence, keys and values are copied once into panels that the
// matrix product reads in order; then a few queries at a time are multiplied with the keys they
// see, normalized, and multiplied with the values. Nothing outside the causal triangle or the
// window is computed, but for the corners of tiles. The result of a sequence is the same bits in
// every batch and with any number of threads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace secateur::cpu {

// Heads of one kind: token t's head h is data[t * stride + h * head_dim ...].
struct HeadRows {
  const float* data = nullptr;
  int64_t stride = 0;  // in floats
};

struct AttentionShape {
  int64_t heads = 0;  // of queries; a multiple of kv_heads
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t window = 0;     // positions a query sees, itself included; 0: all before it
  float scale = 0.0F;     // of query times key
  int64_t value_dim = 0;  // columns of a value; 0: as many as head_dim
};

// Bytes that one thread needs for a sequence of `length`: grows with it.
int64_t AttentionScratchBytes(const AttentionShape& shape, int64_t length);

// What the kernel is compiled for. Which one runs changes the last bits of a result.
enum class InstructionSet { kAvx512, kAvx2, kBaseline };
// Those that this machine has, the best first.
std::vector<InstructionSet> SupportedInstructionSets();

// out [tokens, heads * value_dim] = softmax(scale q k^T) v, for each sequence offsets[i] ..
// offsets[i+1] and each head. A token's values are value_dim apart. `set` is one of the supported
// ones; the best where it is not given.
void CausalAttention(const HeadRows& query, const HeadRows& key, const HeadRows& value,
                     const std::vector<int64_t>& offsets, const AttentionShape& shape, float* out,
                     std::optional<InstructionSet> set = {});

}  // namespace secateur::cpu
