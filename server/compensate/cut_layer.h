// One layer with only some of its FFN neurons. Inside GuardTorch.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/format/tensor_writer.h"
#include "server/model/tensor_table.h"
#include "server/model/transformer.h"

namespace secateur {

// [channels], int64, on `device`.
at::Tensor IndexOf(const std::vector<int32_t>& channels, const at::Device& device);

// `kept`: channels, [kept], int64; `down`: [hidden size, kept], comes in place of down_proj.
LayerWeights CutLayer(const LayerWeights& weights, const at::Tensor& kept, const at::Tensor& down);

// Name and stored type of each layer's tensor of that role, without its shape.
absl::StatusOr<std::vector<TensorSpec>> StoredTensors(const Transformer& base, TensorRole role);

}  // namespace secateur
