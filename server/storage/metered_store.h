// A BlobStore that counts what goes through it into secateur_store_requests_total,
// secateur_store_duration_seconds and secateur_store_bytes_total, and otherwise is the store that
// it owns. The operations are read, head, list, delete, check, and write: one for each object, from
// Create to Commit, with the time spent inside the store; a discarded writer counts as CANCELLED.
// What is read through LocalPath is not seen. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/metrics/metrics.h"
#include "server/storage/blob_store.h"

namespace secateur {

class MeteredStore final : public BlobStore {
 public:
  // `metrics` outlives the store.
  MeteredStore(std::unique_ptr<BlobStore> store, Metrics& metrics)
      : store_(std::move(store)), metrics_(metrics) {}

  const std::string& uri() const override { return store_->uri(); }
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override;
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset, int64_t length) override;
  absl::StatusOr<BlobInfo> Head(const std::string& key) override;
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override;
  absl::Status Delete(const std::string& key) override;
  std::optional<std::string> LocalPath(const std::string& key) override {
    return store_->LocalPath(key);
  }
  absl::Status Check() override;
  absl::Status CheckRoom() override { return store_->CheckRoom(); }

 private:
  const std::unique_ptr<BlobStore> store_;
  Metrics& metrics_;
};

}  // namespace secateur
