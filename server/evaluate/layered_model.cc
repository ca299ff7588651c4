#include "server/evaluate/layered_model.h"

#include <memory>
#include <optional>
#include <vector>

#include "server/base/status_macros.h"

namespace secateur {

LayeredModel Resident(const Transformer& model) {
  return {.config = model.config(),
          .outer = model.outer(),
          .device = model.device(),
          .layer = [&model](int64_t index) { return model.layer(index); },
          .resident = true};
}

LayeredModel Streamed(const ModelFolder& folder, const OuterWeights& outer, const Device& device) {
  return {.config = folder.config(),
          .outer = outer,
          .device = device,
          .layer = [&folder, &device](int64_t index) { return LoadLayer(folder, index, device); },
          .resident = false};
}

LayeredModel Kept(const LayeredModel& model, int64_t max_bytes) {
  LayeredModel kept = model;
  const int64_t bytes = CountBlockParameters(model.config) * static_cast<int64_t>(sizeof(float));
  if (model.resident || bytes > max_bytes) return kept;
  using Layers = std::vector<std::optional<LayerWeights>>;
  const auto layers = std::make_shared<Layers>(static_cast<size_t>(model.config.num_layers));
  kept.layer = [layers, read = model.layer](int64_t index) -> absl::StatusOr<LayerWeights> {
    std::optional<LayerWeights>& layer = (*layers)[static_cast<size_t>(index)];
    if (!layer) {
      ASSIGN_OR_RETURN(layer, read(index));
    }
    return *layer;
  };
  kept.resident = true;
  return kept;
}

}  // namespace secateur
