// `file:` URIs (RFC 8089) to paths and back, and what other URIs begin with.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace secateur {

// The absolute path of a `file:` URI with "%20" and the like decoded; INVALID_ARGUMENT for a host
// other than "" or "localhost", a relative path, a query or a fragment, and for a path that is not
// UTF-8, has a NUL or an encoded '/'; UNIMPLEMENTED for other schemes. "." and ".." stay as they
// are: what they mean depends on symlinks.
absl::StatusOr<std::string> FileUriToPath(const std::string& uri);

// "file:/data/my%20store" for the absolute path "/data/my store".
std::string PathToFileUri(std::string_view path);

// The scheme of `uri` in lower case, "" if it has none.
std::string UriScheme(std::string_view uri);

// True for the schemes of buckets: s3, gs, abfs and abfss.
bool IsBucketScheme(std::string_view scheme);

}  // namespace secateur
