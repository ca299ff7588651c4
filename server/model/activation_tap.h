// What a layer shows to an observer during a forward pass.
//
// Called on the thread that runs the pass, in layer order: OnAttention, then OnFfn of each layer.
// Tensors live until the call returns and must not be changed.
#pragma once

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "server/model/packed_batch.h"

namespace secateur {

struct FfnActivation {
  int64_t layer = 0;
  at::Tensor neurons;   // a: [tokens, intermediate_size], input of down_proj
  at::Tensor output;    // o: [tokens, hidden_size], output of down_proj, before any post norm
  at::Tensor residual;  // h: [tokens, hidden_size], the residual stream after this sublayer
};

struct AttentionActivation {
  int64_t layer = 0;
  int64_t window = 0;   // positions a query sees, itself included; 0: all before it
  at::Tensor query;     // [tokens, heads * head_dim], normed and rotated; columns of a wider tensor
  at::Tensor key;       // [tokens, kv_heads * head_dim], likewise
  at::Tensor heads;     // z: [tokens, heads * head_dim], input of o_proj
  at::Tensor output;    // o: [tokens, hidden_size], output of o_proj, before any post norm
  at::Tensor residual;  // h: [tokens, hidden_size], the residual stream after this sublayer
};

class ActivationTap {
 public:
  virtual ~ActivationTap() = default;
  // An error ends the pass and is returned by it.
  virtual absl::Status OnAttention(const PackedBatch&, const AttentionActivation&) {
    return absl::OkStatus();
  }
  virtual absl::Status OnFfn(const PackedBatch& batch, const FfnActivation& activation) = 0;
};

}  // namespace secateur
