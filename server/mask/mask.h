// The yes or no for each FFN neuron of a base model, each channel of its attention and each row of
// its vocabulary: what stays. Changes no weights.
#pragma once

#include <cstdint>
#include <vector>

#include "server/base/digest.h"

namespace secateur {

// Rows and columns of one layer's attention that stay, ascending.
struct KeptAttention {
  std::vector<int32_t> query;   // rows of q_proj: query head times head_dim plus channel
  std::vector<int32_t> key;     // rows of k_proj: KV head times head_dim plus channel
  std::vector<int32_t> value;   // rows of v_proj, likewise
  std::vector<int32_t> output;  // columns of o_proj, as rows of q_proj

  friend bool operator==(const KeptAttention&, const KeptAttention&) = default;
};

struct Mask {
  // For each layer the channels that stay, ascending.
  std::vector<std::vector<int32_t>> kept;
  // Rows of the embedding (and of the head) that stay, ascending; empty: all of them.
  std::vector<int32_t> vocabulary;
  std::vector<KeptAttention> attention;  // for each layer; empty: all of it stays

  // SHA-256 over the layer count and, for each layer, the size in bytes of its channels and the
  // channels themselves; then the same of the rows, unless all stay; then, unless all of it stays,
  // the text "attention" behind its length and the same of q, k, v and o for each layer. Counts are
  // 64-bit, channels and rows 32-bit, all little-endian. Equal masks, equal digests.
  Digest digest() const;
  friend bool operator==(const Mask&, const Mask&) = default;
};

}  // namespace secateur
