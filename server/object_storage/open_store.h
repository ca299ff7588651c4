// URI to store: `file:/absolute/folder` (also `file:///absolute/folder`), `memory:`, and buckets,
// `s3://`, `gs://`, `abfs://`, as object_filesystem.h describes them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/storage/blob_store.h"

namespace secateur {

struct StoreOptions {
  absl::Duration stall_limit = absl::Seconds(60);      // of buckets; see ArrowStore
  std::function<void(int)> on_abandoned = [](int) {};  // of buckets; see StallGuard::Options
  // What writers that died more than a day ago left: only where all that writes is ours.
  bool remove_leftovers = false;
};

// Makes the folder if it is missing, but no bucket. INVALID_ARGUMENT for a malformed URI,
// UNIMPLEMENTED for another scheme (naming those that are served), else as the store says.
absl::StatusOr<std::unique_ptr<BlobStore>> OpenStore(const std::string& uri,
                                                     const StoreOptions& options = {});

// The URI of `folder` ("a/b") below that of a store: before its options, if it has some.
std::string UriBelow(std::string_view uri, std::string_view folder);

}  // namespace secateur
