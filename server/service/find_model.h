// A resident model by its resource name, for requests that need one that is ready.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/service/secateur_service.h"

namespace secateur {

// `parent` is a field of that name. INVALID_ARGUMENT for a malformed name, NOT_FOUND, UNAVAILABLE
// while it is being loaded.
absl::StatusOr<std::shared_ptr<ResidentModel>> FindModel(const JobParts& parts,
                                                         const std::string& parent);

}  // namespace secateur
