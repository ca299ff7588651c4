// What a model expects to come next, at every position of a text.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "server/base/run_context.h"
#include "server/model/packed_batch.h"
#include "server/model/transformer.h"

namespace secateur {

// Adds to sum[i] the probability that row i of the vocabulary comes next, over all positions of the
// batch: what is added comes to batch.tokens() in all. `sum` is [vocabulary], or empty for zeros,
// and after an error as it was. Memory: logits and probabilities of 64 positions (128 MiB for
// 262,144 rows). CANCELLED between them; DATA_LOSS when a probability is not finite; what
// Transformer::Forward() says.
absl::Status AddNextTokenProbabilities(const Transformer& model, const PackedBatch& batch,
                                       RunContext& context, std::vector<double>& sum);

}  // namespace secateur
