// A request in the form that names the expert (DESIGN 2): defaults explicit, labels resolved.
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

// `vocabulary`: how many of its rows stay, where it was to be trimmed.
v1::ResolvedRequest ResolveRequest(const ExpertRequest& request, const ResolvedSources& sources,
                                   const ResolvedBudget& budget, int64_t vocabulary,
                                   const Digest& base);

v1::Compensation CompensationToProto(Compensation compensation);

// "e" + 40 hex digits of the SHA-256 of the deterministic serialization.
std::string ExpertIdOf(const v1::ResolvedRequest& resolved);

}  // namespace secateur
