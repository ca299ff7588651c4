#include "server/jobs/operation_store.h"

namespace secateur {

absl::Status MemoryOperationStore::Append(const std::string& id, const OperationEvent& event) {
  MutexLock lock(mutex_);
  events_[id].push_back(event);
  return absl::OkStatus();
}

absl::Status MemoryOperationStore::Delete(const std::string& id) {
  MutexLock lock(mutex_);
  events_.erase(id);
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::vector<OperationEvent>>> MemoryOperationStore::Load() {
  MutexLock lock(mutex_);
  return events_;
}

}  // namespace secateur
