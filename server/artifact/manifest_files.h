// A manifest's text without the proto: its own digest, and the list of files inside it.
//
// The text is JSON, indented by 2, a key of the outermost object on each line that begins with two
// blanks. "sha256" there is the SHA-256 of the text without these 64 digits, so that no byte of it
// can change unseen. `files` is an array of {"name", "sizeBytes", "sha256"} in proto3 JSON (64-bit
// integers as strings, defaults left out). Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/artifact/hf_layout.h"

namespace secateur {

inline constexpr int kManifestFormatVersion = 2;

// REQUIRES: `text` has a line `  "sha256": ""`. Returns it with the digest filled in.
std::string SealManifest(std::string text);

// UNIMPLEMENTED for another formatVersion; DATA_LOSS for JSON that does not parse or has none, and
// when the digest is missing or is not that of the text.
absl::Status CheckManifest(std::string_view text);

// OK when `name` can be a file of an expert: one part of an object key. INVALID_ARGUMENT otherwise.
absl::Status CheckFileName(std::string_view name);

// Sorted by name. Errors as CheckManifest; INVALID_ARGUMENT naming the entry and the field for no
// files at all, a name that is no file name, is the manifest's own or comes twice, a negative size
// or a malformed digest.
absl::StatusOr<std::vector<ArtifactFile>> ParseManifestFiles(std::string_view manifest_json);

}  // namespace secateur
