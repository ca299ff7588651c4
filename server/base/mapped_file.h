// A whole file as read-only memory, unmapped by the destructor. The bytes stay valid as long as the
// object lives, also when the file is removed; a file that another process shortens while it is
// mapped makes reads past its new end fatal, so map only files that nobody rewrites in place.
// Thread-safe after construction.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace secateur {

class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED ... as the system says, with the path. An empty file is fine.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, std::string_view bytes) : path_(std::move(path)), bytes_(bytes) {}

  const std::string path_;
  const std::string_view bytes_;
};

}  // namespace secateur
