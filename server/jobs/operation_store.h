// Where the events of operations are kept. The one implementation keeps them in memory: operations
// end with the process. A durable one writes each event as an object of its own. Thread-safe.
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
