// What an operation takes at most, told from its request before any work: what admission counts.
#pragma once

#include "server/jobs/admission.h"
#include "server/jobs/operation.h"
#include "server/service/secateur_service.h"

namespace secateur {

// From sizes of the model and of what is asked for, without the store: a forward pass of one block,
// a profile, the layers that generation keeps, compensation as PlanExpert states it at the longest
// text that it samples. An expert stores at most what the base has in tensors. Not counted are
// corpora (known when they have been read; each at most CorpusLimits), copies for output_uri, and
// tokenizers and manifests. Nothing where the request's model is not there: such work fails at
// once.
JobNeeds NeedsOf(const JobParts& parts, const OperationRequest& operation);

}  // namespace secateur
