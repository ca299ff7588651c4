// The manifest `secateur.json` (proto secateur.v1.Manifest) as text, and back.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace secateur {

namespace v1 {
class Manifest;
class ResolvedRequest;
}  // namespace v1

inline constexpr int kManifestFormatVersion = 1;

// Proto3 JSON, indented, keys sorted: the same manifest, the same bytes.
absl::StatusOr<std::string> ManifestText(const v1::Manifest& manifest);

// DATA_LOSS when it does not parse, UNIMPLEMENTED for a newer format_version.
absl::StatusOr<v1::Manifest> ParseManifest(std::string_view text);

// The name of the expert that a request makes: "e" + 40 hex digits of the SHA-256 of its
// deterministic serialization.
std::string ExpertIdOf(const v1::ResolvedRequest& resolved);

}  // namespace secateur
