#include "server/storage/local_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/str_split.h"
#include "server/base/crash_point.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/storage/store_errors.h"

namespace secateur {
namespace {

struct Listing {
  std::string_view prefix;
  std::string_view start_after;
  int64_t limit;
  std::vector<BlobInfo> found;

  bool full() const { return static_cast<int64_t>(found.size()) >= limit; }
};

// Whether a key that starts with `path` (which ends in '/') can be wanted.
bool CanHoldMatches(const Listing& listing, std::string_view path) {
  const bool prefix_fits = path.starts_with(listing.prefix) || listing.prefix.starts_with(path);
  return prefix_fits && (path > listing.start_after || listing.start_after.starts_with(path));
}

void AddFile(int folder, const char* name, std::string key, Listing& listing) {
  if (!key.starts_with(listing.prefix) || key <= listing.start_after) return;
  struct stat info;
  if (fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) != 0) return;  // just deleted
  if (!S_ISREG(info.st_mode)) return;
  listing.found.push_back({std::move(key), info.st_size, absl::TimeFromTimespec(info.st_mtim)});
}

// `path` is the folder's own path below the root, "" or ending in '/'.
absl::Status ListFolder(int folder, const std::string& path, Listing& listing) {
  ASSIGN_OR_RETURN(std::vector<FolderEntry> entries, ReadFolder(folder));
  // A folder's keys continue with '/', which sorts after '-' and '.': compare the names that way.
  for (FolderEntry& entry : entries) {
    if (entry.is_folder) entry.name += '/';
  }
  std::sort(entries.begin(), entries.end(),
            [](const FolderEntry& a, const FolderEntry& b) { return a.name < b.name; });
  for (const FolderEntry& entry : entries) {
    if (listing.full()) break;
    std::string key = path + entry.name;
    if (!CheckBlobKey(std::string_view(key).substr(0, key.size() - entry.is_folder)).ok()) continue;
    if (!entry.is_folder) {
      AddFile(folder, entry.name.c_str(), std::move(key), listing);
    } else if (CanHoldMatches(listing, key)) {
      const FileDescriptor below = OpenFolder(folder, entry.name);
      if (!below.valid() && errno != ENOENT && errno != ENOTDIR) return ErrnoStatus(errno, key);
      if (below.valid()) RETURN_IF_ERROR(ListFolder(below.get(), key, listing));
    }
  }
  return absl::OkStatus();
}

// What readdir did not say; false for what is neither a folder nor a regular file.
bool Classify(int folder, const dirent& found, FolderEntry& entry) {
  entry.name = found.d_name;
  entry.is_folder = found.d_type == DT_DIR;
  if (found.d_type != DT_UNKNOWN) return entry.is_folder || found.d_type == DT_REG;
  struct stat info;
  if (fstatat(folder, found.d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) return false;
  entry.is_folder = S_ISDIR(info.st_mode);
  return entry.is_folder || S_ISREG(info.st_mode);
}

}  // namespace

absl::Status MakeFolders(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (mkdir(folder.c_str(), 0777) == 0) {
      const std::string above = folder.substr(0, std::max<size_t>(folder.rfind('/'), 1));
      const FileDescriptor parent = OpenFolder(AT_FDCWD, above + "/.");
      if (!parent.valid()) return ErrnoStatus(errno, StrCat("cannot open ", above));
      if (const int error = SyncFolder(parent.get())) {
        return ErrnoStatus(error, StrCat("cannot sync ", above));
      }
    } else if (errno != EEXIST) {
      return ErrnoStatus(errno, StrCat("cannot make the folder ", folder));
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

FileDescriptor OpenFolder(int at, const std::string& name) {
  return FileDescriptor(openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

absl::StatusOr<std::vector<FolderEntry>> ReadFolder(int folder) {
  // A descriptor of its own: reading moves the offset, and another thread may be reading too.
  const int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return ErrnoStatus(errno, "cannot open a folder to read its names");
  const std::unique_ptr<DIR, int (*)(DIR*)> names(fdopendir(own), closedir);
  if (names == nullptr) {
    close(own);
    return absl::ResourceExhaustedError("no memory to read a folder");
  }
  std::vector<FolderEntry> entries;
  while (true) {
    errno = 0;
    const dirent* found = readdir(names.get());
    if (found == nullptr) break;
    const std::string_view name = found->d_name;
    FolderEntry entry;
    if (name != "." && name != ".." && Classify(folder, *found, entry)) {
      entries.push_back(std::move(entry));
    }
  }
  if (errno != 0) return ErrnoStatus(errno, "cannot read the names in a folder");
  return entries;
}

int RenameNoReplace(int from_folder, const char* from, int to_folder, const char* to) {
  if (renameat2(from_folder, from, to_folder, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // A file system (NFS, for one) that has no such rename: a second name, then one less.
  if (linkat(from_folder, from, to_folder, to, 0) != 0) return errno;
  unlinkat(from_folder, from, 0);  // if this fails, the name is a leftover like others
  return 0;
}

int SyncFolder(int folder) {
  if (SeededBug("drop_folder_fsync")) return 0;
  return fsync(folder) == 0 || errno == EINVAL ? 0 : errno;
}

absl::StatusOr<std::string> ReadRange(int file, int64_t offset, int64_t count) {
  std::string bytes(static_cast<size_t>(count), '\0');
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n =
        pread(file, bytes.data() + done, bytes.size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read");
    if (n == 0) return absl::DataLossError("the file became shorter while it was read");
    done += static_cast<size_t>(n);
  }
  return bytes;
}

absl::StatusOr<std::vector<BlobInfo>> ListObjects(int root, std::string_view prefix,
                                                  std::string_view start_after, int64_t limit) {
  Listing listing{prefix, start_after, limit, {}};
  // Folders beside those that the prefix names may be many: they are not read.
  const std::string path(prefix.substr(0, prefix.rfind('/') + 1));
  if (!path.empty() && !CheckBlobKey(path.substr(0, path.size() - 1)).ok()) return listing.found;
  FileDescriptor folder = OpenFolder(root, ".");
  for (const absl::string_view name : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (folder.valid()) folder = OpenFolder(folder.get(), std::string(name));
  }
  if (!folder.valid() && (errno == ENOENT || errno == ENOTDIR)) return listing.found;
  if (!folder.valid()) return ErrnoStatus(errno, path);
  RETURN_IF_ERROR(ListFolder(folder.get(), path, listing));
  return std::move(listing.found);
}

}  // namespace secateur
