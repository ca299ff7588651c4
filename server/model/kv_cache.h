// Keys and values of the tokens that sequences have had, so that a pass over the next token of each
// is enough to continue them. Grows by every pass: a layer's tokens x 2 x KV heads x head_dim in
// the compute type. Thread-compatible.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "server/model/packed_batch.h"

namespace secateur {

class KvCache {
 public:
  struct Layer {
    std::vector<at::Tensor> keys;    // by sequence: [tokens, kv_heads * head_dim], rotated
    std::vector<at::Tensor> values;  // likewise
  };

  // Tokens of a sequence that earlier passes have had; 0 before the first.
  int64_t length(size_t sequence) const { return lengths_.empty() ? 0 : lengths_[sequence]; }
  bool empty() const { return lengths_.empty(); }
  // Of the first pass; 0 before it.
  int64_t sequences() const { return static_cast<int64_t>(lengths_.size()); }

  // Adds the rows of a pass, `batch`, to layer `layer`. Inside GuardTorch. REQUIRES: each layer
  // once a pass; after a pass that failed the cache is spent.
  const Layer& Append(int64_t layer, const PackedBatch& batch, const at::Tensor& key,
                      const at::Tensor& value);
  // After a pass has been through all layers.
  void Finish(const PackedBatch& batch);

 private:
  std::vector<Layer> layers_;
  std::vector<int64_t> lengths_;
};

}  // namespace secateur
