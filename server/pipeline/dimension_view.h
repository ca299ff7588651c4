// Cached profiles of corpora to one merged view.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/pipeline/build_profile.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/stores.h"

namespace secateur {

// The profile of each corpus (FindProfile), in their order. FAILED_PRECONDITION, with reason
// PROFILE_MISSING and `field`, naming corpora that have none yet (at most five). UNAVAILABLE
// while the model's digest is being computed.
absl::StatusOr<std::vector<ProfileInfo>> FindProfiles(const ResidentModel& model,
                                                      const std::vector<CorpusInfo>& corpora,
                                                      const ProfileSettings& settings,
                                                      std::string_view field, const Stores& stores);

// Their merge, cached by what it is merged from. At least one, sorted by corpus digest.
// OUT_OF_RANGE for a quantile that so many documents do not know, naming `spec.quantile` and the
// least that will do.
absl::StatusOr<std::shared_ptr<const RelevanceView>> MergedView(
    const std::vector<const ProfileInfo*>& profiles, const ViewOptions& options,
    const Stores& stores);

}  // namespace secateur
