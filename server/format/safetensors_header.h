// What reader and writer of safetensors share: the constants of the container and its JSON header.
// A file is the header's length (8 bytes, little endian), the header, and the tensors' bytes, to
// which the header's offsets are relative. Internal to server/format.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/format/tensor_writer.h"

namespace secateur {

inline constexpr size_t kSafetensorsLengthBytes = 8;
inline constexpr uint64_t kSafetensorsHeaderLimit = 100 << 20;
inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

struct SafetensorsEntry {
  TensorSpec spec;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of the text
  std::map<std::string, std::string> metadata;
};

// Checks the form only: that each entry has an element type, a shape and two offsets, all in range,
// and nothing else. INVALID_ARGUMENT, or UNIMPLEMENTED for an unknown element type, with the
// tensor's name.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json);

}  // namespace secateur
