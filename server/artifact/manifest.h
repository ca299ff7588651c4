// The manifest `secateur.json` (proto secateur.v1.Manifest) as text, and back.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/artifact/manifest_files.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace secateur {

namespace v1 {
class Manifest;
class ResolvedRequest;
}  // namespace v1

// Proto3 JSON, indented, keys sorted, `sha256` filled in: the same manifest, the same bytes.
absl::StatusOr<std::string> ManifestText(const v1::Manifest& manifest);

// DATA_LOSS when it does not match its digest or does not parse, UNIMPLEMENTED for another
// format_version.
absl::StatusOr<v1::Manifest> ParseManifest(std::string_view text);

// Equal bytes for equal messages: maps are sorted, which those of SerializeAsString() are not.
std::string CanonicalBytes(const google::protobuf::Message& message);

// The name of the expert that a request makes: "e" + 40 hex digits of the SHA-256 of its
// canonical bytes.
std::string ExpertIdOf(const v1::ResolvedRequest& resolved);

}  // namespace secateur
