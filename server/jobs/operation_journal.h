// Events on their way into the store. What the store does not take is kept, in order, and tried
// again before the next one: work that is done is not undone because a store was full.
//
// Thread-compatible: the job queue calls it under its lock. Bounded by the operations that are in
// memory, each of which has a handful of events.
#pragma once

#include <deque>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "server/jobs/operation.h"
#include "server/jobs/operation_store.h"

namespace secateur {

class OperationJournal {
 public:
  // `store` must outlive it.
  explicit OperationJournal(OperationStore& store) : store_(store) {}

  // The beginning of an operation, which is in the store or was not accepted.
  absl::Status Begin(const std::string& id, const OperationEvent& created) {
    return store_.Append(id, created);
  }
  // Every later event. Failures are logged.
  void Write(const std::string& id, const OperationEvent& event);
  // Tries what is left once more.
  void Flush();
  // All of an operation, what was not written yet included.
  absl::Status Delete(const std::string& id);

 private:
  OperationStore& store_;
  std::deque<std::pair<std::string, OperationEvent>> unwritten_;  // oldest first
};

}  // namespace secateur
