// Where the events of operations are kept: in memory, where they end with the process, or as
// objects of their own (durable_operation_store.h). Thread-safe.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/jobs/operation.h"

namespace secateur {

class OperationStore {
 public:
  virtual ~OperationStore() = default;
  // The event counts once this has returned OK.
  virtual absl::Status Append(const std::string& id, const OperationEvent& event) = 0;
  virtual absl::Status Delete(const std::string& id) = 0;
  // Whether another process will find them.
  virtual bool durable() const { return false; }
  // All events by operation, in the order in which they were appended.
  virtual absl::StatusOr<std::map<std::string, std::vector<OperationEvent>>> Load() = 0;
};

class MemoryOperationStore final : public OperationStore {
 public:
  absl::Status Append(const std::string& id, const OperationEvent& event) override;
  absl::Status Delete(const std::string& id) override;
  absl::StatusOr<std::map<std::string, std::vector<OperationEvent>>> Load() override;

 private:
  Mutex mutex_;
  std::map<std::string, std::vector<OperationEvent>> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace secateur
