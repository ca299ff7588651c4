#include "server/storage/disk_room.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/storage/file_uri.h"

namespace secateur {

absl::StatusOr<DiskRoom> DiskRoomOf(const std::string& file_uri) {
  ASSIGN_OR_RETURN(const std::string path, FileUriToPath(file_uri));
  std::error_code error;
  const auto space = std::filesystem::space(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), StrCat("cannot ask the disk of ", path));
  const auto now = std::max<int64_t>(static_cast<int64_t>(space.available), 1);
  return DiskRoom{.now = now, .ever = std::max(static_cast<int64_t>(space.capacity), now)};
}

}  // namespace secateur
