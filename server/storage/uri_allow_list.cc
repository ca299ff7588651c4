#include "server/storage/uri_allow_list.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/storage/file_uri.h"

namespace secateur {
namespace {

// "/" for the root, else without a '/' at the end.
bool IsInside(std::string_view path, std::string_view folder) {
  if (folder == "/" || path == folder) return true;
  return path.starts_with(folder) && path[folder.size()] == '/';
}

// The existing file or folder with all symlinks resolved; nothing with errno otherwise.
std::optional<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), std::free);
  if (real == nullptr) return std::nullopt;
  return std::string(real.get());
}

bool IsSymlink(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
}

// The real path of the longest part of `path` that exists, and the rest as it is; nothing where
// that cannot be said: a symlink to nowhere, or ".." below a folder that is yet to be made.
std::optional<std::string> Canonical(std::string path) {
  std::string rest;
  while (true) {
    if (const std::optional<std::string> real = RealPath(path)) {
      return *real == "/" && !rest.empty() ? rest : *real + rest;
    }
    if ((errno != ENOENT && errno != ENOTDIR) || IsSymlink(path)) return std::nullopt;
    const size_t slash = path.rfind('/');
    const std::string part = path.substr(slash + 1);
    if (part == "..") return std::nullopt;
    if (!part.empty() && part != ".") rest = StrCat("/", part, rest);
    path.resize(std::max<size_t>(slash, 1));  // of "/name", "/" stays
  }
}

// A bucket's URI has neither options nor escapes nor parts that some would resolve.
absl::Status CheckBucketUri(const std::string& uri) {
  const size_t host = uri.find("://");
  const bool plain = host != std::string::npos && host + 3 < uri.size() &&
                     uri.find_first_of("?#%\\ ") == std::string::npos;
  bool parts = plain;
  if (plain) {
    for (const absl::string_view part : absl::StrSplit(uri.substr(host + 3), '/')) {
      parts = parts && !part.empty() && part != "." && part != "..";
    }
  }
  if (parts) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("the URI ", Quoted(uri),
             " is malformed; write SCHEME://BUCKET/NAME, without options: the "
             "operator says how the bucket is reached"));
}

}  // namespace

absl::StatusOr<UriAllowList> UriAllowList::Create(const std::vector<std::string>& prefixes) {
  UriAllowList list;
  for (const std::string& prefix : prefixes) {
    if (IsBucketScheme(UriScheme(prefix))) {
      const size_t question = std::min(prefix.find('?'), prefix.size());
      std::string place = prefix.substr(0, question);
      while (place.ends_with('/') && !place.ends_with("//")) place.pop_back();
      RETURN_IF_ERROR(CheckBucketUri(place));
      list.buckets_.push_back({std::move(place), prefix.substr(question)});
      continue;
    }
    ASSIGN_OR_RETURN(const std::string path, FileUriToPath(prefix));
    std::optional<std::string> folder = RealPath(path + "/.");
    if (!folder) {
      return absl::ErrnoToStatus(
          errno, StrCat("cannot allow ", Quoted(prefix), ", which must be an existing folder"));
    }
    list.folders_.push_back(*std::move(folder));
  }
  return list;
}

absl::StatusOr<std::string> UriAllowList::Resolve(const std::string& uri,
                                                  std::string_view flag) const {
  if (IsBucketScheme(UriScheme(uri))) return ResolveInBucket(uri, flag);
  ASSIGN_OR_RETURN(const std::string path, FileUriToPath(uri));
  if (const std::optional<std::string> canonical = Canonical(path)) {
    for (const std::string& folder : folders_) {
      if (IsInside(*canonical, folder)) return PathToFileUri(*canonical);
    }
  }
  return Denied(uri, flag);
}

absl::StatusOr<std::string> UriAllowList::ResolveInBucket(const std::string& uri,
                                                          std::string_view flag) const {
  RETURN_IF_ERROR(CheckBucketUri(uri));
  for (const Bucket& bucket : buckets_) {
    if (IsInside(uri, bucket.place)) return uri + bucket.options;
  }
  return Denied(uri, flag);
}

// The same words whether or not the file exists: outside, that is nobody's business.
absl::Status UriAllowList::Denied(const std::string& uri, std::string_view flag) const {
  return absl::PermissionDeniedError(StrCat(
      Quoted(uri), " is not inside a folder that the server may touch: it was started ",
      folders_.empty() && buckets_.empty() ? "without " : "with other folders for ", flag,
      "; start it with ", flag, "=file:/FOLDER or ", flag, "=s3://BUCKET/FOLDER to allow one"));
}

}  // namespace secateur
