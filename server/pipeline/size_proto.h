// Sizes in the words of the API, for plans, experts and manifests alike.
#pragma once

#include "secateur/v1/resources.pb.h"
#include "server/mask/budget.h"
#include "server/model/weights.h"
#include "server/pipeline/plan_expert.h"

namespace secateur {

v1::Size ToProto(const Size& size, const ModelFolder& folder);
// What `mask` does not keep of attention.
v1::AttentionResult RemovedAttention(const Mask& mask, const ModelConfig& config);
v1::VocabularyResult ToProto(const VocabularyPlan& plan, const PlannedExpert& planned);

}  // namespace secateur
