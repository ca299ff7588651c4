// The text that second moments are taken from: documents of every view of a request, tokenised,
// weighted, and split into what is learnt from and what judges.
//
// A view counts by its weight, its corpora by min(documents, 64) as in a merge of profiles, their
// documents by their tokens. The first tokens of documents are all one position, the attention
// sink, and count together like one token in 200 (ALGORITHM 0.1). Every fifth document is held out
// (of two to four the second), counted over all corpora in the order of their digests, in each by
// the documents' digests; equal documents count once, in the first corpus that has them.
// Bounded: of a large corpus every n-th document, as it lies there, is taken, and of many small
// ones some give a document for the others, so that the selection comes to about kSelectionTokens,
// of which each view has its weight's share and what smaller ones leave of theirs, and general text
// to about kGeneralTokens, whatever there is. Every view has a document at least.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/measured_text.h"
#include "server/pipeline/expert_request.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/resolve_sources.h"
#include "server/pipeline/stores.h"

namespace secateur {

inline constexpr int64_t kSelectionTokens = 32'768;
inline constexpr int64_t kGeneralTokens = 8'192;
inline constexpr int64_t kHeldOutEvery = 5;  // documents
// Version of what is above and of the measuring behind it; part of a measured text's key.
inline constexpr int kCompensationVersion = 3;

// Roughly how many tokens that comes to at most, told from the corpora's sizes alone.
int64_t EstimateCompensationTokens(const ExpertRequest& request, const ResolvedSources& sources);

// As reading and tokenising documents. Stops between documents after a cancel.
absl::StatusOr<CompensationText> ReadCompensationText(const ResidentModel& model,
                                                      const ExpertRequest& request,
                                                      const ResolvedSources& sources,
                                                      const Stores& stores, RunContext& context);

}  // namespace secateur
