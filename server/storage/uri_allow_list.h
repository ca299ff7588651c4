// Which files requests may touch.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace secateur {

// Files and objects that requests may touch: folders and buckets given by the operator as URI
// prefixes. Immutable, thread-safe.
class UriAllowList {
 public:
  // Each prefix is a `file:` URI of an existing folder, canonicalised here, symlinks resolved; or
  // that of a bucket or a folder in one, with the options that reach it
  // ("s3://bucket/in?region=eu-west-1"), which is not asked.
  static absl::StatusOr<UriAllowList> Create(const std::vector<std::string>& prefixes);

  // The URI of what `uri` names if it lies inside an allowed folder: a `file:` URI of the canonical
  // path (symlinks resolved; the longest existing part for a path yet to be made), or a bucket's
  // with the operator's options. PERMISSION_DENIED naming the flag that would allow it otherwise;
  // INVALID_ARGUMENT for malformed URIs and for options in one: how a bucket is reached is the
  // operator's to say. `flag` is "--allow-read" or "--allow-write".
  absl::StatusOr<std::string> Resolve(const std::string& uri, std::string_view flag) const;

 private:
  // "s3://bucket/in" and "?region=eu-west-1", or "".
  struct Bucket {
    std::string place, options;
  };

  absl::StatusOr<std::string> ResolveInBucket(const std::string& uri, std::string_view flag) const;
  absl::Status Denied(const std::string& uri, std::string_view flag) const;

  std::vector<std::string> folders_;
  std::vector<Bucket> buckets_;
};

}  // namespace secateur
