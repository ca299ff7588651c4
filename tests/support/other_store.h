// A store that is another one, for tests that have something else in mind for some of its calls.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/storage/blob_store.h"

namespace secateur {

// Shows no local files. Thread-safe as far as the other is.
class OtherStore : public BlobStore {
 public:
  explicit OtherStore(BlobStore& store) : store_(store) {}

  const std::string& uri() const override { return store_.uri(); }
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override {
    return store_.Create(key);
  }
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset,
                                   int64_t length) override {
    return store_.Read(key, offset, length);
  }
  absl::StatusOr<BlobInfo> Head(const std::string& key) override { return store_.Head(key); }
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override {
    return store_.List(prefix, start_after, limit);
  }
  absl::Status Delete(const std::string& key) override { return store_.Delete(key); }
  std::optional<std::string> LocalPath(const std::string&) override { return std::nullopt; }
  absl::Status Check() override { return store_.Check(); }

 private:
  BlobStore& store_;
};

}  // namespace secateur
