// An expert's own words and numbers against its base's, without a forward pass: config.json, the
// tensors outside the layers byte for byte, and each layer's weights value for value. This finds a
// single wrong bit, which a forward pass within a tolerance would let through.
//
// All errors are DATA_LOSS and name the key or tensor and both values. Functions that take tensors
// may throw what libtorch throws: call them through GuardTorch().
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "server/mask/cut.h"
#include "server/model/tensor_table.h"
#include "server/model/weights.h"

namespace secateur {

// The expert's config.json says what it should, key by key.
absl::Status CompareConfigs(const nlohmann::ordered_json& wanted, const ModelFolder& expert);

// Embedding, final norm and head; of embedding and head the `rows` of the base, if any are given.
absl::Status CompareOuterTensors(const ModelFolder& base, const ModelFolder& expert,
                                 const std::vector<int32_t>& rows);

struct KeptChannels {
  at::Tensor index;    // [kept], int64: the channels
  at::Tensor factors;  // [all]: 1 for a channel that stays, 0 for others
};
// Of an axis with `all` channels, on the device and in the type of `like`. Channels must be in
// [0, all).
KeptChannels MakeKeptChannels(const std::vector<int32_t>& channels, int64_t all,
                              const at::Tensor& like);

// Tensors of a layer that come in place of the base's, or that it has not: in the expert's shape.
using ReplacedTensors = std::map<TensorRole, at::Tensor>;

// Each tensor of the expert's layer is the base's, cut to the units that stay, or with zeros for
// the others, as `cut` says; but what `replaced` has, which comes instead. `table`: of the expert's
// tensors, in the base's shapes (WithAddedTensors).
absl::Status CompareLayerWeights(const std::vector<TensorInfo>& table, int64_t layer,
                                 const LayerWeights& expert, const LayerWeights& base,
                                 const Cut& cut, const ReplacedTensors& replaced = {});

// Puts zeros in place of what `mask` does not keep of the layer's attention. The tensors that
// change are new ones.
void ZeroAttention(const std::vector<TensorInfo>& base_table, int64_t layer, const Mask& mask,
                   LayerWeights& weights);

}  // namespace secateur
