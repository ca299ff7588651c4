#include "server/object_storage/open_store.h"

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/object_storage/arrow_store.h"
#include "server/storage/file_uri.h"
#include "server/storage/local_store.h"
#include "server/storage/memory_store.h"

namespace secateur {

absl::StatusOr<std::unique_ptr<BlobStore>> OpenStore(const std::string& uri,
                                                     const StoreOptions& options) {
  const std::string scheme = UriScheme(uri);
  if (scheme == "file") {
    ASSIGN_OR_RETURN(const std::string path, FileUriToPath(uri));
    return LocalStore::Open(path, Clock::System(), options.remove_leftovers);
  }
  if (IsBucketScheme(scheme)) {
    return ArrowStore::Open(uri, {.stall_limit = options.stall_limit,
                                  .on_abandoned = options.on_abandoned,
                                  .remove_leftovers = options.remove_leftovers});
  }
  if (scheme == "memory" && uri.size() == scheme.size() + 1) return std::make_unique<MemoryStore>();
  if (scheme.empty() || scheme == "memory") {
    return absl::InvalidArgumentError(StrCat(
        "the store URI ", Quoted(uri),
        " is malformed; write file:/absolute/folder, s3://bucket/folder, gs://bucket/folder, "
        "abfs://container@account.dfs.core.windows.net/folder or memory:"));
  }
  return absl::UnimplementedError(StrCat("the store URI ", Quoted(uri), " has the scheme ", scheme,
                                         ":; served are file:, s3:, gs:, abfs: and memory:"));
}

std::string UriBelow(std::string_view uri, std::string_view folder) {
  const size_t question = IsBucketScheme(UriScheme(uri)) ? uri.find('?') : std::string_view::npos;
  std::string_view place = uri.substr(0, question);
  while (place.ends_with('/') && !place.ends_with(":/")) place.remove_suffix(1);
  return StrCat(place, "/", folder,
                question == std::string_view::npos ? std::string_view() : uri.substr(question));
}

}  // namespace secateur
