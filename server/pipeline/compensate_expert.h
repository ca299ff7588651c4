// The story of compensation: read the text of the selection, measure it once, solve for one size.
#pragma once

#include "absl/status/statusor.h"
#include "secateur/v1/resources.pb.h"
#include "server/base/run_context.h"
#include "server/compensate/compensate.h"
#include "server/pipeline/plan_expert.h"

namespace secateur {

struct CompensatedExpert {
  Compensated cut;
  v1::CompensationResult result;
};

// Roughly what that takes.
v1::CompensationCost CostOfCompensation(const ResidentModel& model, const ExpertRequest& request,
                                        const ComposedRequest& composed,
                                        const PlannedExpert& planned);

// For a request with compensation. `planned.mask` is the plain mask that must be beaten. Holds
// the device for each of its two halves. Errors as reading documents, measuring and solving.
absl::StatusOr<CompensatedExpert> CompensateExpert(ResidentModel& model,
                                                   const ExpertRequest& request,
                                                   const ComposedRequest& composed,
                                                   const PlannedExpert& planned,
                                                   const Stores& stores, RunContext& context);

}  // namespace secateur
