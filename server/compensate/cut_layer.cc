#include "server/compensate/cut_layer.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"

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

absl::StatusOr<std::vector<TensorSpec>> StoredTensors(const Transformer& base, TensorRole role) {
  std::vector<TensorSpec> specs(static_cast<size_t>(base.config().num_layers));
  for (const TensorInfo& info : base.folder().table()) {
    if (info.role != role) continue;
    ASSIGN_OR_RETURN(const TensorView view, base.folder().tensors().Find(info.name));
    specs[static_cast<size_t>(info.layer)] = {info.name, view.dtype, {}};
  }
  return specs;
}

}  // namespace secateur
