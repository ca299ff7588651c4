#include "server/storage/local_copy.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxObjects = 10'000;
constexpr int64_t kChunk = 4 << 20;

absl::Status CopyOut(BlobStore& store, const BlobInfo& object, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  for (int64_t at = 0; at < object.size; at += kChunk) {
    ASSIGN_OR_RETURN(const std::string chunk, store.Read(object.key, at, kChunk));
    if (!(file << chunk)) break;
  }
  file.close();
  return file ? absl::OkStatus() : absl::ErrnoToStatus(errno, StrCat("cannot write ", path));
}

}  // namespace

absl::StatusOr<LocalCopy> LocalCopy::Of(BlobStore& store, const std::string& prefix) {
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> objects, store.List(prefix, "", kMaxObjects));
  if (objects.empty())
    return absl::NotFoundError(StrCat("nothing below ", store.uri(), "/", prefix));
  if (const auto path = store.LocalPath(objects[0].key)) {
    return LocalCopy(fs::path(*path).parent_path().string(), false);
  }
  std::string folder = (fs::temp_directory_path() / "secateur-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::ErrnoToStatus(errno, StrCat("cannot make a temporary folder ", folder));
  }
  LocalCopy copy(folder, true);
  for (const BlobInfo& object : objects) {
    RETURN_IF_ERROR(CopyOut(store, object, folder + "/" + object.key.substr(prefix.size())));
  }
  return copy;
}

LocalCopy::LocalCopy(LocalCopy&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, false)) {}

LocalCopy::~LocalCopy() {
  std::error_code ignored;
  if (temporary_) fs::remove_all(path_, ignored);
}

}  // namespace secateur
