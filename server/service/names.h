// Resource names of the API: check, take apart, put together. Errors are INVALID_ARGUMENT with the
// field's path, the name found and the form wanted.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace secateur {

// The {model} of "models/{model}".
absl::StatusOr<std::string> ParseModelName(std::string_view name, std::string_view field);
// The {corpus} of "corpora/{corpus}": "c" and 40 hex digits.
absl::StatusOr<std::string> ParseCorpusName(std::string_view name, std::string_view field);
// The {operation} of "operations/{operation}": "o" and 40 hex digits.
absl::StatusOr<std::string> ParseOperationName(std::string_view name, std::string_view field);

struct ChildName {
  std::string model;
  std::string id;
};
// "models/{model}/profiles/{profile}", "models/{model}/experts/{expert}".
absl::StatusOr<ChildName> ParseProfileName(std::string_view name, std::string_view field);
absl::StatusOr<ChildName> ParseExpertName(std::string_view name, std::string_view field);

std::string ModelName(std::string_view model);
std::string CorpusName(std::string_view id);
std::string ProfileName(std::string_view model, std::string_view id);
std::string ExpertName(std::string_view model, std::string_view id);
std::string OperationName(std::string_view id);

// [a-z0-9] then up to 62 of [a-z0-9._-].
bool IsSlug(std::string_view text);

}  // namespace secateur
