// What an operation takes at most, told from its request before any work: what admission counts.
#pragma once

#include "server/jobs/admission.h"
#include "server/jobs/operation.h"
#include "server/service/secateur_service.h"

namespace secateur {

// From sizes of the model and of what is asked for and what is known of the store, without reading
// it: a forward pass of one block, a profile, the layers that generation keeps, compensation as
// PlanExpert states it at the longest text that it samples. An expert stores at most what the base
// has in tensors, and the profiles that it still lacks; where the store is no folder, checks and
// evaluations read a temporary copy of it. Not counted are corpora (known when they have been read;
// each at most CorpusLimits), copies for output_uri, tokenizers and manifests, and profiles that
// are made again because they turn out to be damaged. Nothing where the request's model is not
// there: such work fails at once.
JobNeeds NeedsOf(const JobParts& parts, const OperationRequest& operation);

}  // namespace secateur
