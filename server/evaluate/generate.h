// Greedy continuation of a few short prompts: whether a model still writes text that does not turn
// in circles.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/evaluate/layered_model.h"
#include "server/evaluate/score_sequences.h"

namespace secateur {

struct GenerateOptions {
  int64_t new_tokens = 24;    // of each prompt, at least 1
  std::set<int32_t> end_ids;  // end a continuation, and are not part of it
  DeviceTurn turn;            // taken for a layer at a time; empty: at once
};

using TokenSequences = std::vector<std::vector<int32_t>>;

// The likeliest next token of each prompt, again and again; of equally likely ones the lowest id.
// Continuations alone, in the order of the prompts. Layers of a model that is read from files are
// kept in memory when all of them need at most 1 GiB, else every new token reads them once.
// INVALID_ARGUMENT for an empty prompt or one that passes the model's positions with its
// continuation; DATA_LOSS when a logit is not finite. Reports "generate" in tokens of one
// continuation.
absl::StatusOr<TokenSequences> ContinueGreedily(const LayeredModel& model,
                                                const TokenSequences& prompts,
                                                const GenerateOptions& options,
                                                RunContext& context);

// Share of all runs of 4 tokens that stand earlier in the same continuation, 0 to 1; 0 when there
// are none.
double RepetitionRate(const TokenSequences& continuations);

}  // namespace secateur
