#include "server/storage/local_copy.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/storage/local_folder.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxObjects = 10'000;
constexpr int64_t kChunk = 4 << 20;
constexpr std::string_view kNameStart = "secateur-copy-";
// How often another process may hold a folder that was just made for a leftover.
constexpr int kTries = 100;

absl::Status CopyOut(BlobStore& store, const BlobInfo& object, const std::string& path,
                     const RunContext& context) {
  std::ofstream file(path, std::ios::binary);
  for (int64_t at = 0; at < object.size; at += kChunk) {
    RETURN_IF_ERROR(context.CheckCancelled());
    ASSIGN_OR_RETURN(const std::string chunk, store.Read(object.key, at, kChunk));
    if (!(file << chunk)) break;
  }
  file.close();
  return file ? absl::OkStatus() : absl::ErrnoToStatus(errno, StrCat("cannot write ", path));
}

// The folder, if it is ours alone and still there.
FileDescriptor Locked(const std::string& path) {
  FileDescriptor folder = OpenFolder(AT_FDCWD, path);
  struct stat info;
  const bool locked = folder.valid() && flock(folder.get(), LOCK_EX | LOCK_NB) == 0 &&
                      fstat(folder.get(), &info) == 0 && info.st_nlink > 0 &&
                      info.st_uid == geteuid();
  return locked ? std::move(folder) : FileDescriptor();
}

void RemoveLeftovers(const fs::path& parent) {
  std::error_code ignored;
  std::vector<std::string> paths;
  for (fs::directory_iterator entry(parent, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (entry->path().filename().string().starts_with(kNameStart)) paths.push_back(entry->path());
  }
  for (const std::string& path : paths) {
    const FileDescriptor lock = Locked(path);
    if (lock.valid()) fs::remove_all(path, ignored);
  }
}

}  // namespace

absl::StatusOr<LocalCopy> LocalCopy::Of(BlobStore& store, const std::string& prefix,
                                        const RunContext& context) {
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> objects, store.List(prefix, "", kMaxObjects));
  if (objects.empty())
    return absl::NotFoundError(StrCat("nothing below ", store.uri(), "/", prefix));
  if (const auto path = store.LocalPath(objects[0].key)) {
    return LocalCopy(fs::path(*path).parent_path().string());
  }
  ASSIGN_OR_RETURN(LocalCopy copy, MakeTemporary());
  for (const BlobInfo& object : objects) {
    RETURN_IF_ERROR(
        CopyOut(store, object, copy.path_ + "/" + object.key.substr(prefix.size()), context));
  }
  return copy;
}

absl::StatusOr<LocalCopy> LocalCopy::MakeTemporary() {
  std::error_code error;
  const fs::path parent = fs::temp_directory_path(error);
  if (error) return absl::ErrnoToStatus(error.value(), "no folder for temporary files");
  RemoveLeftovers(parent);
  for (int i = 0; i < kTries; ++i) {
    std::string folder = (parent / StrCat(kNameStart, "XXXXXX")).string();
    if (mkdtemp(folder.data()) == nullptr) {
      return absl::ErrnoToStatus(errno, StrCat("cannot make a temporary folder ", folder));
    }
    LocalCopy copy(folder);
    copy.lock_ = Locked(folder);
    if (copy.lock_.valid()) return copy;
    rmdir(folder.c_str());
  }
  return absl::UnavailableError(
      StrCat("other processes remove every temporary folder of ", parent.string()));
}

LocalCopy::~LocalCopy() {
  std::error_code ignored;
  if (lock_.valid()) fs::remove_all(path_, ignored);
}

}  // namespace secateur
