// The story of an expert: profiles, mask, slice, write, check, publish (ARCHITECTURE.md).
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/pipeline/expert_request.h"
#include "server/pipeline/make_expert.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/stores.h"

namespace secateur {

// The expert of this request if it has been made: nothing is computed but its id. Absent also when
// a profile is missing, or a plan of the vocabulary.
absl::StatusOr<std::optional<StoredExpert>> FindExpert(const ResidentModel& model,
                                                       const ExpertRequest& request,
                                                       const Stores& stores);

// FAILED_PRECONDITION, reason NOT_MADE_YET: what ONLY_IF_CACHED asks for is not there.
absl::Status NotMadeYet();

// Makes what is missing and publishes. Errors as PlanExpert and the operation errors of
// CreateExpert in the API; GATE_NOT_MET as CheckGate, EXPIRED as ExpertStore::CheckAhead. A
// cancelled or failed build leaves nothing behind.
absl::StatusOr<StoredExpert> BuildExpert(ResidentModel& model, const ExpertRequest& request,
                                         const BuildOptions& options, const Stores& stores,
                                         RunContext& context);

}  // namespace secateur
