// A BlobStore in memory: for tests and first tries. All is gone with the object.
// Thread-safe. A writer holds its bytes until Commit; nothing bounds what is kept.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/storage/blob_store.h"

namespace secateur {

class MemoryStore final : public BlobStore {
 public:
  // `clock` gives BlobInfo::modified and outlives the store.
  explicit MemoryStore(const Clock& clock = Clock::System()) : clock_(clock) {}

  const std::string& uri() const override { return uri_; }
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override;
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset, int64_t length) override;
  absl::StatusOr<BlobInfo> Head(const std::string& key) override;
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override;
  absl::Status Delete(const std::string& key) override;
  std::optional<std::string> LocalPath(const std::string&) override { return std::nullopt; }
  absl::Status Check() override { return absl::OkStatus(); }

 private:
  class Writer;
  struct Object {
    std::shared_ptr<const std::string> bytes;
    absl::Time modified;
  };

  // OK when `key` and all keys above and below it are free.
  absl::Status CheckFree(const std::string& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Object> Find(const std::string& key) const;
  absl::Status Publish(const std::string& key, std::string bytes);

  const std::string uri_ = "memory:";
  const Clock& clock_;
  mutable Mutex mutex_;
  std::map<std::string, Object> objects_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace secateur
