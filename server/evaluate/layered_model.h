// A model as the measures see it: one layer after the other, kept in memory or read from files, so
// that one mechanism runs a resident base and an expert of which a single layer is held at a time.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "server/model/transformer.h"
#include "server/model/weights.h"

namespace secateur {

// Plain references: what it was made of must outlive it.
struct LayeredModel {
  const ModelConfig& config;
  const OuterWeights& outer;
  const Device& device;
  std::function<absl::StatusOr<LayerWeights>(int64_t index)> layer;
  bool resident = true;  // `layer` costs nothing
};

LayeredModel Resident(const Transformer& model);

// A model on disk. `outer` is its own, or that of a resident base whose embedding, final norm and
// head equal its own, byte for byte: what VerifyExpert has shown of an expert.
LayeredModel Streamed(const ModelFolder& folder, const OuterWeights& outer, const Device& device);

// The same model with every layer kept in memory after its first use, when all of them together
// need at most `max_bytes` in float32; else as it is. The layers live as long as what is returned.
LayeredModel Kept(const LayeredModel& model, int64_t max_bytes);

}  // namespace secateur
