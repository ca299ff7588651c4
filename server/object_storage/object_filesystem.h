// A folder of a bucket as Arrow sees it, from its URI:
//
//   s3://BUCKET[/FOLDER][?region=R&scheme=http&endpoint_override=HOST:PORT]
//   gs://[anonymous@]BUCKET[/FOLDER][?scheme=http&endpoint_override=HOST:PORT]
//   abfs://CONTAINER@ACCOUNT.dfs.core.windows.net[/FOLDER]
//   abfs://ACCOUNT@HOST:PORT/CONTAINER[/FOLDER]?enable_tls=false     (a server that speaks Azure's
//   protocol)
//
// Credentials are found by each cloud's own chain (for S3 environment, profile, web identity, the
// machine's role; for GCS application default credentials; for Azure AZURE_STORAGE_KEY or
// AZURE_STORAGE_SAS_TOKEN, else environment, workload identity, managed identity), never in a URI:
// one that has some is refused. With an endpoint_override, S3 buckets are in the path.
// Private to object storage.
#pragma once

#include <arrow/filesystem/filesystem.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/object_storage/s3_uploads.h"

namespace secateur {

struct ObjectFilesystem {
  std::shared_ptr<arrow::fs::FileSystem> arrow;
  std::string root;  // "bucket/folder", without '/' at the end
  std::string uri;   // as ShownUri gives it
  // True where a stream that is aborted leaves nothing. GCS and Azure publish or leave empty
  // objects then.
  bool can_abort = false;
  std::shared_ptr<const S3Uploads> uploads;  // of S3
};

// INVALID_ARGUMENT for a malformed URI or one with credentials, UNIMPLEMENTED for another scheme.
// Asks S3 for the region of a bucket where none is given, and may ask the machine's metadata
// service for credentials: UNAVAILABLE and so on when that fails.
absl::StatusOr<ObjectFilesystem> OpenObjectFilesystem(const std::string& uri);

// For logs and errors: "s3://bucket/folder", without user and options.
std::string ShownUri(const std::string& uri);

}  // namespace secateur
