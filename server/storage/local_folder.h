// The system calls of LocalStore: folders as descriptors, so that no path is ever resolved twice
// and no symlink is followed. Functions without state; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/storage/blob_store.h"
#include "server/storage/file_descriptor.h"

namespace secateur {

// Makes `path` (absolute, without "/" at its end) and what is missing above it, and syncs what
// changed. Symlinks are followed here: the operator chose the path.
absl::Status MakeFolders(const std::string& path);

// The folder `name` in the folder `at`; invalid with errno ENOTDIR for anything else, symlinks too.
FileDescriptor OpenFolder(int at, const std::string& name);

struct FolderEntry {
  std::string name;
  bool is_folder = false;  // else a regular file
};
// Folders and regular files in `folder`, in no order, without "." and "..".
absl::StatusOr<std::vector<FolderEntry>> ReadFolder(int folder);

// Moves a file unless something is at its new name: 0, or an errno (EEXIST then).
int RenameNoReplace(int from_folder, const char* from, int to_folder, const char* to);

// Syncs a folder's names: 0, or an errno. File systems that cannot are taken to need none.
int SyncFolder(int folder);

// `count` bytes from `offset`; DATA_LOSS when the file ends before that.
absl::StatusOr<std::string> ReadRange(int file, int64_t offset, int64_t count);

// BlobStore::List over the files below `root`. Files whose path is no key are skipped.
absl::StatusOr<std::vector<BlobInfo>> ListObjects(int root, std::string_view prefix,
                                                  std::string_view start_after, int64_t limit);

}  // namespace secateur
