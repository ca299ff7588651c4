// One layer with only some of its FFN neurons. Inside GuardTorch.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "server/model/weights.h"

namespace secateur {

// [channels], int64, on `device`.
at::Tensor IndexOf(const std::vector<int32_t>& channels, const at::Device& device);

// `kept`: channels, [kept], int64; `down`: [hidden size, kept], comes in place of down_proj.
LayerWeights CutLayer(const LayerWeights& weights, const at::Tensor& kept, const at::Tensor& down);

}  // namespace secateur
