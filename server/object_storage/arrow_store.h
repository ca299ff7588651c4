// A BlobStore in a bucket: S3, GCS or Azure through Arrow's file systems. The object "a/b" is the
// object FOLDER/a/b of the bucket.
//
// A writer hashes what it gets and sends it in parts of kPartBytes while the caller makes the next
// ones: at most two batches of kBatchParts parts and two parts more are in memory, and the parts of
// a batch go side by side. On S3 nothing is visible before the last request, and what is not
// committed is aborted. GCS and Azure have no such abort: there an object is written to FOLDER/.tmp
// under a name that nobody asks for, and copied to its key by the store; what a killed process
// leaves in .tmp is removed by an Open a day later.
//
// There is no put-if-absent. Within a process one Commit of a key wins; two processes that write
// one key at the same moment may both be told that they won, so keys are unique or made of content.
// Unlike folders, buckets hold "a" and "a/b" side by side. Times are in whole seconds.
//
// Every request has a time limit (StallGuard), so nothing waits for ever; Arrow tries failed ones
// again, with growing random pauses, before that. A write that was given up may come through later,
// whole. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/storage/blob_store.h"

namespace secateur {

class Bucket;

class ArrowStore final : public BlobStore {
 public:
  static constexpr int64_t kPartBytes = int64_t{10} << 20;
  static constexpr int kBatchParts = 4;
  // Of 10,000 parts, the most that S3 takes, rounded down.
  static constexpr int64_t kMaxObjectBytes = int64_t{90} << 30;

  struct Options {
    absl::Duration stall_limit = absl::Seconds(60);  // for each request and for each batch of parts
    std::function<void(int)> on_abandoned = [](int) {};  // see StallGuard::Options
    bool remove_leftovers = true;  // what writers left here that died more than a day ago
  };

  // Of all stores of the process: requests may name buckets that hang, one after the other.
  static constexpr int kMostHanging = 16;

  // `uri` as in object_filesystem.h. FAILED_PRECONDITION when the bucket is missing,
  // PERMISSION_DENIED, UNAVAILABLE when the store does not answer, and while kMostHanging calls
  // hang.
  static absl::StatusOr<std::unique_ptr<ArrowStore>> Open(const std::string& uri,
                                                          const Options& options);
  ~ArrowStore() override;

  const std::string& uri() const override;
  // RESOURCE_EXHAUSTED from Append past kMaxObjectBytes.
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override;
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset, int64_t length) override;
  absl::StatusOr<BlobInfo> Head(const std::string& key) override;
  // Asks for all objects below the folder that `prefix` names: one request for about a thousand.
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override;
  absl::Status Delete(const std::string& key) override;
  std::optional<std::string> LocalPath(const std::string&) override { return std::nullopt; }
  // Writes the object FOLDER/.tmp/check.
  absl::Status Check() override;

 private:
  explicit ArrowStore(std::shared_ptr<Bucket> bucket);

  const std::shared_ptr<Bucket> bucket_;
};

// Ends what Arrow started, once no store is left and before main() returns. False when threads
// still hang in it: then the process must leave by _exit, since ending would wait for them.
bool FinalizeObjectStorage();

// For a process that is about to leave: see StallGuard::HurryAll.
void HurryObjectStorage(absl::Duration limit);

}  // namespace secateur
