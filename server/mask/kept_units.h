// Which rows or columns of a base tensor a mask keeps. What cuts tensors, zeroes them, counts them
// or compares them asks here. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "server/mask/mask.h"
#include "server/model/tensor_table.h"

namespace secateur {

struct KeptUnits {
  int axis = -1;                               // along which units go; -1: the tensor stays whole
  const std::vector<int32_t>* kept = nullptr;  // ascending, of the mask
};

// Of a tensor of a layer; rows of the vocabulary are another matter. A tensor that keeps all of its
// units stays whole. REQUIRES: the mask has the layer.
KeptUnits FindKeptUnits(const TensorInfo& info, const Mask& mask);

// Parameters of q_proj, k_proj, v_proj (biases too) and o_proj that `mask` does not keep, of all
// layers together.
int64_t CountRemovedAttention(const ModelConfig& config, const Mask& mask);

}  // namespace secateur
