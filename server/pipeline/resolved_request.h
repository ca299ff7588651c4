// A request in the form that names the expert: defaults explicit, labels resolved.
#pragma once

#include <string>
#include <variant>

#include "secateur/v1/manifest.pb.h"
#include "server/base/digest.h"
#include "server/pipeline/expert_request.h"
#include "server/pipeline/resolve_sources.h"

namespace secateur {

// A width for all layers, or the sigma of strict sets of different sizes.
using ResolvedBudget = std::variant<Width, Sigma>;

// `size` says how many rows of the vocabulary and KV head groups stay, where some were to go;
// groups that all stay were not asked for. `base_groups`: the base's.
v1::ResolvedRequest ResolveRequest(const ExpertRequest& request, const ResolvedSources& sources,
                                   const ResolvedBudget& budget, const Size& size,
                                   int64_t base_groups, const Digest& base);

v1::Compensation CompensationToProto(Compensation compensation);

}  // namespace secateur
