// An expert by its resource name.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/service/secateur_service.h"

namespace secateur {

struct FoundExpert {
  StoredExpert stored;
  v1::Expert proto;
};

// INVALID_ARGUMENT for a malformed name, NOT_FOUND, DATA_LOSS for an unreadable manifest.
absl::StatusOr<FoundExpert> FindExpertByName(const JobParts& parts, const std::string& name);

}  // namespace secateur
