#include "server/compensate/cost.h"

#include <algorithm>

#include "server/corpus/packing.h"
#include "server/model/transformer.h"

namespace secateur {
namespace {

// neurons^2 in float64 at the peak of a layer's removal order, and of its least squares: the
// system, its factor, its inverse, and room for the products that update it.
constexpr int64_t kSquareMatrices = 5;
// hidden size x neurons in float64: down_proj as it was, as it becomes, and a right-hand side.
constexpr int64_t kFlatMatrices = 4;
// Second moments of calibration and of held-out text.
constexpr int64_t kTexts = 2;

}  // namespace

CompensationCost CostOfCompensation(const ModelConfig& config, int64_t tokens,
                                    int64_t held_out_tokens, const CostOptions& options) {
  const int64_t neurons = config.intermediate_size;
  // Of one token, in float32; half of that where the compute type is bfloat16.
  const int64_t stream = config.hidden_size * static_cast<int64_t>(sizeof(float));
  const int64_t candidates =
      options.shape == Shape::kMasked ? kMaskedCandidates : kUniformCandidates;
  const int64_t judged = candidates * held_out_tokens;
  int64_t streams = stream * std::max(judged, tokens);
  if (options.compensation == Compensation::kSequential) {
    // Of the base, of the trial, of what is kept, and behind the attention of the layer that is
    // being solved; and what its down_proj reads.
    const int64_t read = neurons * static_cast<int64_t>(sizeof(float));
    streams = std::max(streams, (4 * stream + read) * tokens);
  }
  CompensationCost cost;
  cost.memory_bytes =
      PassBytes(config, std::min(tokens, FramingSettings{}.block_tokens)) + streams +
      static_cast<int64_t>(sizeof(double)) *
          (kSquareMatrices * neurons * neurons + kFlatMatrices * config.hidden_size * neurons);
  const int64_t heads = options.attention ? config.num_heads * config.head_dim : 0;
  cost.disk_bytes = kTexts * config.num_layers * (neurons * neurons + heads * heads) *
                    static_cast<int64_t>(sizeof(float));
  return cost;
}

}  // namespace secateur
