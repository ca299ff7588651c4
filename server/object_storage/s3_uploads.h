// Multipart uploads that were begun and neither completed nor aborted: invisible, and paid for.
// Arrow can neither list nor abort them, so this speaks S3's two requests itself, signed by libcurl
// with the credentials that Arrow found. Thread-safe; calls block, 30 seconds at most.
// Private to object storage.
#pragma once

#include <arrow/filesystem/s3fs.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace secateur {

class S3Uploads {
 public:
  // `options` as given to the file system, its region known.
  S3Uploads(arrow::fs::S3Options options, std::string bucket);

  // Aborts uploads of keys that start with `prefix` and were begun before `before`, of the first
  // thousand; returns how many.
  absl::StatusOr<int64_t> AbortOld(const std::string& prefix, absl::Time before) const;
  // Aborts the upload of `key`, if there is exactly one: another may be another writer's.
  absl::Status AbortOnly(const std::string& key) const;

 private:
  struct Upload {
    std::string key, id;
    absl::Time begun;
  };
  absl::StatusOr<std::vector<Upload>> List(const std::string& prefix) const;
  absl::Status Abort(const Upload& upload) const;
  absl::StatusOr<std::string> Send(const char* method, const std::string& key,
                                   const std::string& query) const;

  const arrow::fs::S3Options options_;
  const std::string bucket_;
};

}  // namespace secateur
