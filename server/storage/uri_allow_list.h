// Which files requests may touch.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace secateur {

// Files that requests may touch: a set of folders given by the operator as `file:` URI prefixes.
// Immutable, thread-safe.
class UriAllowList {
 public:
  // Each prefix is a `file:` URI of an existing folder; canonicalised here, symlinks resolved.
  static absl::StatusOr<UriAllowList> Create(const std::vector<std::string>& prefixes);

  // The canonical path (symlinks resolved; the longest existing part for a path yet to be made) if
  // it lies inside an allowed folder; PERMISSION_DENIED naming the flag that would allow it
  // otherwise. `flag` is "--allow-read" or "--allow-write".
  absl::StatusOr<std::string> Resolve(const std::string& uri, std::string_view flag) const;

 private:
  std::vector<std::string> folders_;
};

}  // namespace secateur
