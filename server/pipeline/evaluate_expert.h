// The story of a measurement: base and expert on held-out text, corpus by corpus.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "secateur/v1/manifest.pb.h"
#include "secateur/v1/resources.pb.h"
#include "server/base/run_context.h"
#include "server/pipeline/opened_expert.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/stores.h"

namespace secateur {

struct EvaluationRequest {
  std::vector<std::string> corpora;      // ids of evaluation corpora, sorted, distinct
  std::vector<std::string> calibration;  // ids of what the expert was made from; for the overlap
  int64_t max_document_tokens = 257;     // first token included; above the model's positions: those
};

// Ids of all corpora that an expert is made from, general text among them, for the overlap: sorted,
// each once. INVALID_ARGUMENT for what is no digest.
absl::StatusOr<std::vector<std::string>> CalibrationOf(const v1::ResolvedRequest& request);

// The resident base and an expert made from it, each with its own tokenizer on the same bytes:
// those of the base's first tokens. One result for each corpus, in their order. Takes turns on the
// device. Errors as EvaluateCorpus; NOT_FOUND or DATA_LOSS for a corpus; FAILED_PRECONDITION when
// the expert has not enough positions for a text. Reports "evaluate" in documents of all
// corpora, each of which counts twice: for the base and for the expert; before that "overlap" in
// documents of calibration corpora.
absl::StatusOr<std::vector<v1::EvaluationResult>> EvaluateOpened(ResidentModel& base,
                                                                 const OpenedExpert& expert,
                                                                 const EvaluationRequest& request,
                                                                 const Stores& stores,
                                                                 RunContext& context);

// FAILED_PRECONDITION unless `base` is the model that the expert was made of. UNAVAILABLE while
// its digest is being computed.
absl::Status CheckIsBaseOf(const ResidentModel& base, const StoredExpert& expert);

// The same for a published expert, whose manifest says what it was made from. Every file is checked
// against its digest first (DATA_LOSS); reports that as "check" in bytes. Errors as CheckIsBaseOf
// and EvaluateOpened.
absl::StatusOr<std::vector<v1::EvaluationResult>> EvaluateExpert(ResidentModel& base,
                                                                 const StoredExpert& expert,
                                                                 EvaluationRequest request,
                                                                 const Stores& stores,
                                                                 RunContext& context);

}  // namespace secateur
