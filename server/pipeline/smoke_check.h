// Whether an expert still writes: a greedy continuation of a few calibration prompts, and how much
// worse it predicts calibration text than its base.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/model/packed_batch.h"
#include "server/pipeline/opened_expert.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/stores.h"

namespace secateur {

struct SmokeResult {
  int64_t generated_tokens = 0;     // by the expert, of all prompts
  double base_repetition_rate = 0;  // RepetitionRate() of evaluate/generate.h
  double expert_repetition_rate = 0;
  double perplexity_ratio = 0;  // of the expert over the base, on `sample`
};

// At most 4 prompts of at most 16 tokens, the beginnings of the corpus's first documents, continued
// by 24 tokens; each model has its own tokenizer cut them. `sample` is numbered as the base's
// tokens are; `expert_nats_per_token` is what VerifyExpert measured on the same. What the base does
// is kept (ResidentModel::smokes()) for the next expert of the corpus.
//
// DATA_LOSS when a number is not finite: such a model is broken. A rise of the repetition rate is
// told and not refused: small models repeat themselves under greedy decoding even when whole, a few
// prompts make a coarse number, and what may be lost is the caller's choice, for which there is the
// gate on held-out text. Takes turns on the device. Reports "generate" in tokens.
absl::StatusOr<SmokeResult> SmokeCheck(ResidentModel& base, const OpenedExpert& expert,
                                       const std::string& corpus_id, const PackedBatch& sample,
                                       double expert_nats_per_token, const Stores& stores,
                                       RunContext& context);

}  // namespace secateur
