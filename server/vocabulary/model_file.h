// The small files of a model folder that may be missing.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace secateur {

// The content of `name` in `folder`; nothing if there is no such file.
absl::StatusOr<std::optional<std::string>> ReadModelFile(const std::string& folder,
                                                         const std::string& name);
// The same as JSON; INVALID_ARGUMENT naming the file when it does not parse.
absl::StatusOr<std::optional<nlohmann::ordered_json>> ReadModelJson(const std::string& folder,
                                                                    const std::string& name);

}  // namespace secateur
