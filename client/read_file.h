// A small file as a string: certificates, tokens, lists of corpora.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace secateur {

// The bytes of `path`. `what` names its role in errors: "ca_file".
// Errors: NOT_FOUND (it cannot be opened or read; a folder), INVALID_ARGUMENT (more than 1 MiB).
absl::StatusOr<std::string> ReadSmallFile(const std::string& what, const std::string& path);

}  // namespace secateur
