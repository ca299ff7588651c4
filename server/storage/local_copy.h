// The objects below a prefix as files in one folder of this machine, for as long as the handle
// lives: the store's own folder where it has one, else a temporary copy. Movable, not copyable.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/storage/blob_store.h"

namespace secateur {

class LocalCopy {
 public:
  // `prefix` ends with '/'; objects below it have no further '/'. NOT_FOUND when there are none.
  static absl::StatusOr<LocalCopy> Of(BlobStore& store, const std::string& prefix);
  ~LocalCopy();
  LocalCopy(LocalCopy&& other) noexcept;
  LocalCopy& operator=(LocalCopy&&) = delete;

  const std::string& path() const { return path_; }

 private:
  LocalCopy(std::string path, bool temporary) : path_(std::move(path)), temporary_(temporary) {}
  std::string path_;
  bool temporary_;
};

}  // namespace secateur
