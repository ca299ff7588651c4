// The text entries of a profile file's header, FORMAT.md "Metadata". Internal to server/profile.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "server/profile/profile_file.h"

namespace secateur {

using ProfileMetadata = std::map<std::string, std::string>;

ProfileMetadata ToMetadata(const ProfileSummary& summary);

// Errors as in profile_file.h, without the file's name.
absl::StatusOr<ProfileSummary> FromMetadata(const ProfileMetadata& metadata);

}  // namespace secateur
