// From what a layer's attention shows to the scores of its units (attention_statistics.h), one
// document at a time. No map of attention is held: the variances of ALGORITHM 2.3 come from means
// of keys, their squares and their products, by the attention of the forward pass itself with those
// in place of the values.
//
// In float32 on the CPU, where other devices' activations are copied. Scores do not depend on the
// number of threads or on the other documents of a block. Memory: about 5/2 (heads + KV heads)
// head_dim floats a token of the block. Immutable; thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "server/model/activation_tap.h"
#include "server/model/transformer.h"
#include "server/profile/attention_statistics.h"

namespace secateur {

// `model` must outlive it; weights are read when it is made. libtorch's exceptions pass through:
// make and use it under the guard of server/model/torch_guard.h.
class AttentionScorer {
 public:
  explicit AttentionScorer(const Transformer& model);

  // The scores of each document of a block: squared changes a token.
  std::vector<AttentionScores> Score(const std::vector<int64_t>& offsets,
                                     const AttentionActivation& activation) const;

 private:
  struct Rows;
  AttentionScores ScoreDocument(const Rows& rows, size_t layer, int64_t begin, int64_t end) const;

  const Transformer& model_;
  // For each layer W_O[:,hj] . W_O[:,h'j] of each KV head's HeadPairs: [kv_heads, pairs, head_dim];
  // doubled for h != h'.
  std::vector<std::vector<double>> products_;
};

}  // namespace secateur
