// The objects below a prefix as files in one folder of this machine, for as long as the handle
// lives: the store's own folder where it has one, else a temporary copy in $TMPDIR. A copy whose
// process was killed goes when the next is made. Movable, not copyable.
#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/storage/blob_store.h"
#include "server/storage/file_descriptor.h"

namespace secateur {

class LocalCopy {
 public:
  // `prefix` ends with '/'; objects below it have no further '/'. NOT_FOUND when there are none,
  // CANCELLED within one part of a copy.
  static absl::StatusOr<LocalCopy> Of(BlobStore& store, const std::string& prefix,
                                      const RunContext& context);
  ~LocalCopy();
  LocalCopy(LocalCopy&& other) noexcept = default;
  LocalCopy& operator=(LocalCopy&&) = delete;

  const std::string& path() const { return path_; }

 private:
  explicit LocalCopy(std::string path) : path_(std::move(path)) {}
  static absl::StatusOr<LocalCopy> MakeTemporary();

  std::string path_;
  // Of a temporary folder, and locked: nobody holds the lock of what a dead process left.
  FileDescriptor lock_;
};

}  // namespace secateur
