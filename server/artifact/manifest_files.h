// The list of files inside a manifest, read without the proto: `files` of its JSON form, an array
// of
// {"name", "sizeBytes", "sha256"} in proto3 JSON (64-bit integers as strings, defaults left out).
// Everything else in the manifest is passed over. Pure functions.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/artifact/hf_layout.h"

namespace secateur {

// OK when `name` can be a file of an expert: one part of an object key. INVALID_ARGUMENT otherwise.
absl::Status CheckFileName(std::string_view name);

// Sorted by name. INVALID_ARGUMENT naming the entry and the field for JSON that does not parse, no
// files at all, a name that is no file name, is the manifest's own or comes twice, a negative size
// or a malformed digest.
absl::StatusOr<std::vector<ArtifactFile>> ParseManifestFiles(std::string_view manifest_json);

}  // namespace secateur
