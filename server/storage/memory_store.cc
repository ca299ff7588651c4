#include "server/storage/memory_store.h"

#include <utility>

#include "absl/strings/match.h"
#include "server/base/status_macros.h"
#include "server/storage/store_errors.h"

namespace secateur {

class MemoryStore::Writer final : public BlobWriter {
 public:
  Writer(MemoryStore& store, std::string key) : store_(store), key_(std::move(key)) {}

  absl::Status Append(std::string_view data) override {
    RETURN_IF_ERROR(usable_);
    hash_.Update(data);
    bytes_.append(data);
    return absl::OkStatus();
  }

  absl::StatusOr<BlobReceipt> Commit() override {
    RETURN_IF_ERROR(usable_);
    usable_ =
        absl::FailedPreconditionError(StrCat("the writer of ", key_, " was committed already"));
    const BlobReceipt receipt{static_cast<int64_t>(bytes_.size()), hash_.Finish()};
    RETURN_IF_ERROR(store_.Publish(key_, std::move(bytes_)));
    return receipt;
  }

 private:
  MemoryStore& store_;
  const std::string key_;
  std::string bytes_;
  Sha256 hash_;
  absl::Status usable_;
};

absl::StatusOr<std::unique_ptr<BlobWriter>> MemoryStore::Create(const std::string& key) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  MutexLock lock(mutex_);
  RETURN_IF_ERROR(CheckFree(key));
  return std::make_unique<Writer>(*this, key);
}

absl::StatusOr<std::string> MemoryStore::Read(const std::string& key, int64_t offset,
                                              int64_t length) {
  ASSIGN_OR_RETURN(const Object object, Find(key));
  const auto size = static_cast<int64_t>(object.bytes->size());
  ASSIGN_OR_RETURN(const int64_t count, BytesInRange(uri_, key, size, offset, length));
  return object.bytes->substr(static_cast<size_t>(offset), static_cast<size_t>(count));
}

absl::StatusOr<BlobInfo> MemoryStore::Head(const std::string& key) {
  ASSIGN_OR_RETURN(const Object object, Find(key));
  return BlobInfo{key, static_cast<int64_t>(object.bytes->size()), object.modified};
}

absl::StatusOr<std::vector<BlobInfo>> MemoryStore::List(const std::string& prefix,
                                                        const std::string& start_after,
                                                        int64_t limit) {
  if (limit < 0) return BadLimit(uri_, limit);
  std::vector<BlobInfo> found;
  MutexLock lock(mutex_);
  auto at = start_after < prefix ? objects_.lower_bound(prefix) : objects_.upper_bound(start_after);
  for (; at != objects_.end() && absl::StartsWith(at->first, prefix); ++at) {
    if (static_cast<int64_t>(found.size()) == limit) break;
    const auto& [key, object] = *at;
    found.push_back({key, static_cast<int64_t>(object.bytes->size()), object.modified});
  }
  return found;
}

absl::Status MemoryStore::Delete(const std::string& key) {
  RETURN_IF_ERROR(CheckBlobKey(key));
  MutexLock lock(mutex_);
  objects_.erase(key);
  return absl::OkStatus();
}

absl::Status MemoryStore::CheckFree(const std::string& key) const {
  if (objects_.contains(key)) return KeyTaken(uri_, key);
  const auto below = objects_.lower_bound(key + "/");
  if (below != objects_.end() && absl::StartsWith(below->first, key + "/")) {
    return KeyAboveOrBelowTaken(uri_, key);
  }
  for (size_t at = key.find('/'); at != std::string::npos; at = key.find('/', at + 1)) {
    if (objects_.contains(key.substr(0, at))) return KeyAboveOrBelowTaken(uri_, key);
  }
  return absl::OkStatus();
}

absl::StatusOr<MemoryStore::Object> MemoryStore::Find(const std::string& key) const {
  RETURN_IF_ERROR(CheckBlobKey(key));
  MutexLock lock(mutex_);
  const auto found = objects_.find(key);
  if (found == objects_.end()) return NoSuchObject(uri_, key);
  return found->second;
}

absl::Status MemoryStore::Publish(const std::string& key, std::string bytes) {
  Object object{std::make_shared<const std::string>(std::move(bytes)), clock_.Now()};
  MutexLock lock(mutex_);
  RETURN_IF_ERROR(CheckFree(key));
  objects_.emplace(key, std::move(object));
  return absl::OkStatus();
}

}  // namespace secateur
