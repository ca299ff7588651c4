// What becomes of a base model's tensors: the mask, the form it takes, and what is replaced.
// Refers to what it was made from, which must outlive it.
#pragma once

#include "server/format/scratch_tensors.h"
#include "server/mask/mask.h"
#include "server/model/config.h"
#include "server/profile/attention_sets.h"

namespace secateur {

// How a mask becomes tensors: `shape` of a request.
enum class Shape {
  kUniform,  // removed rows and columns are cut out; every layer keeps the same count, and of
             // attention whole KV head groups
  kMasked,   // the base's shape, with zeros in their place; counts may differ between layers
};

struct Cut {
  // A mask is a cut into a uniform shape that replaces nothing.
  // NOLINTNEXTLINE(google-explicit-constructor)
  Cut(const Mask& cut_mask, Shape cut_shape = Shape::kUniform,
      const ScratchTensors* replaced_tensors = nullptr)
      : mask(cut_mask), shape(cut_shape), replaced(replaced_tensors) {}

  const Mask& mask;
  const Shape shape;
  // Tensors that are not the base's, by name, in the expert's shape and the base's stored type
  // (zeros included where the shape is kMasked); null for none. Biases of the FFN may come that the
  // base has not: then of all three projections of every layer.
  const ScratchTensors* const replaced;
};

// The base's config, with biases of the FFN where the cut brings them: its tensor table names all
// tensors of the expert, in the base's shape.
ModelConfig WithAddedTensors(const ModelConfig& base, const Cut& cut);

AttentionHeads HeadsOf(const ModelConfig& config);
// Of every layer of the expert: fewer than the base's where a uniform cut takes KV head groups.
AttentionHeads HeadsOf(const ModelConfig& base, const Cut& cut);

}  // namespace secateur
