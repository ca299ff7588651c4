// Scores of FFN neurons from the paper's definition, slowly: a neuron is zeroed in the weights and
// the sublayer runs again.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "tests/profile/slow_attention.h"

namespace secateur {

// What the FFN of one layer gives, copied.
class FfnOutputTap final : public ActivationTap {
 public:
  absl::Status OnFfn(const PackedBatch&, const FfnActivation& activation) override {
    output = activation.output.to(at::kDouble);
    return absl::OkStatus();
  }
  at::Tensor output;  // [tokens, hidden size]
};

inline at::Tensor FfnOutput(const OneLayer& layer, const LayerWeights& weights) {
  FfnOutputTap tap;
  layer.Run(weights, tap);
  return tap.output;
}

// Zeros in place of all that makes a neuron: its rows and its column, as a masked expert has them.
inline LayerWeights WithoutNeuron(LayerWeights weights, int64_t neuron) {
  weights.gate = WithoutRows(weights.gate, {neuron});
  weights.up = WithoutRows(weights.up, {neuron});
  weights.down = WithoutColumns(weights.down, neuron, 1);
  return weights;
}

// Squared changes a token of each document without a neuron.
inline Scores SlowNeuronScores(const Transformer& model, const PackedBatch& block, int64_t layer) {
  const OneLayer one(model, block, layer);
  const at::Tensor whole = FfnOutput(one, one.weights());
  Scores scores(block.offsets.size() - 1);
  for (int64_t neuron = 0; neuron < model.config().intermediate_size; ++neuron) {
    const at::Tensor change = FfnOutput(one, WithoutNeuron(one.weights(), neuron)) - whole;
    for (size_t i = 0; i < scores.size(); ++i) {
      const int64_t begin = block.offsets[i], end = block.offsets[i + 1];
      const double sum = change.slice(0, begin, end).square().sum().item<double>();
      scores[i].push_back(sum / static_cast<double>(end - begin));
    }
  }
  return scores;
}

}  // namespace secateur
