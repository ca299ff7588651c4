// An expert that is not there yet: compensate, slice, write, check, publish.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/pipeline/expert_request.h"
#include "server/pipeline/plan_expert.h"
#include "server/pipeline/quality_gate.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/single_flight.h"
#include "server/pipeline/stores.h"

namespace secateur {

struct BuildOptions {
  bool refresh = false;         // make it again even when it exists
  bool only_if_cached = false;  // NotMadeYet() unless it exists
  QualityGate gate;             // what the expert must hold to be published or copied
  std::string output_uri;       // of a folder that gets a copy, for OpenStore; empty: none
  Lifetime lifetime;            // from when it is published or found
  int64_t max_shard_bytes = HfLayoutOptions{}.max_shard_bytes;
};

// Runs the model as the request asks for, and publishes. Leaves nothing behind unless it is
// published. The caller holds the expert's id, `hold`. Errors as BuildExpert.
absl::StatusOr<StoredExpert> MakeExpert(ResidentModel& model, const ExpertRequest& request,
                                        const PlannedExpert& planned,
                                        const ComposedRequest& composed,
                                        const BuildOptions& options, const SingleFlight::Hold& hold,
                                        const Stores& stores, RunContext& context);

}  // namespace secateur
