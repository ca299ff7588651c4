#include "server/compensate/cut_layer.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace secateur {

at::Tensor IndexOf(const std::vector<int32_t>& channels, const at::Device& device) {
  const at::Tensor index = at::empty({static_cast<int64_t>(channels.size())}, at::kLong);
  std::copy(channels.begin(), channels.end(), index.mutable_data_ptr<int64_t>());
  return index.to(device);
}

LayerWeights CutLayer(const LayerWeights& weights, const at::Tensor& kept, const at::Tensor& down) {
  LayerWeights cut = weights;
  for (LinearWeights* linear : {&cut.gate, &cut.up}) {
    linear->weight = linear->weight.index_select(0, kept);
    if (linear->bias.defined()) linear->bias = linear->bias.index_select(0, kept);
  }
  cut.down.weight = down;
  return cut;
}

}  // namespace secateur
