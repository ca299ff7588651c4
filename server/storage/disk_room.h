// How much there may be on a disk. Plain data.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace secateur {

struct DiskRoom {
  int64_t now = 0;   // bytes that may be written now; 0: not known, any
  int64_t ever = 0;  // on the whole disk, or as many as are allowed: at least `now`
};

// Of the disk of a `file:` URI's folder, which exists; what is full has one byte. Errors as
// FileUriToPath, and as the system's where it cannot be asked.
absl::StatusOr<DiskRoom> DiskRoomOf(const std::string& file_uri);

}  // namespace secateur
