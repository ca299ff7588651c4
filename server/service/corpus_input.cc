#include "server/service/corpus_input.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/storage/file_uri.h"
#include "server/storage/local_folder.h"
#include "server/storage/store_errors.h"

namespace secateur {
namespace {

// A file none of whose folders is a symlink: `path` has been resolved, and allowed. Errno is set
// where the descriptor is invalid.
FileDescriptor OpenWithoutLinks(const std::string& path) {
  FileDescriptor folder(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  if (parts.empty()) return folder;
  const std::string name = std::move(parts.back());
  parts.pop_back();
  for (const std::string& part : parts) {
    folder = FileDescriptor(
        openat(folder.get(), part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder.valid()) return folder;
  }
  // O_NONBLOCK: opening a named pipe would wait for its writer.
  return FileDescriptor(
      openat(folder.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace

absl::StatusOr<CorpusInput> CorpusInput::Open(const std::string& uri, const StoreOptions& options) {
  return IsBucketScheme(UriScheme(uri)) ? OpenObject(uri, options) : OpenFile(uri);
}

absl::StatusOr<CorpusInput> CorpusInput::OpenFile(const std::string& uri) {
  CorpusInput input;
  ASSIGN_OR_RETURN(input.name_, FileUriToPath(uri));
  input.file_ = OpenWithoutLinks(input.name_);
  struct stat info;
  if (!input.file_.valid() || fstat(input.file_.get(), &info) != 0) {
    return ErrnoStatus(errno, StrCat("cannot open ", input.name_));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(StrCat(input.name_, " is not a regular file"));
  }
  input.size_ = info.st_size;
  return input;
}

absl::StatusOr<CorpusInput> CorpusInput::OpenObject(const std::string& uri,
                                                    const StoreOptions& options) {
  CorpusInput input;
  const size_t question = std::min(uri.find('?'), uri.size());
  input.name_ = uri.substr(0, question);
  const size_t slash = input.name_.rfind('/');
  input.key_ = input.name_.substr(slash + 1);
  ASSIGN_OR_RETURN(input.store_,
                   OpenStore(input.name_.substr(0, slash) + uri.substr(question), options));
  ASSIGN_OR_RETURN(const BlobInfo info, input.store_->Head(input.key_));
  input.size_ = info.size;
  return input;
}

absl::StatusOr<std::string> CorpusInput::Read(int64_t offset, int64_t length) {
  const int64_t count = std::min(length, size_ - offset);
  if (store_ == nullptr) {
    auto bytes = ReadRange(file_.get(), offset, count);
    if (!bytes.ok()) return Annotate(bytes.status(), name_);
    return bytes;
  }
  ASSIGN_OR_RETURN(std::string bytes, store_->Read(key_, offset, count));
  if (std::ssize(bytes) == count) return bytes;
  return absl::DataLossError(StrCat(name_, " became shorter while it was read"));
}

}  // namespace secateur
