// One operation in this process's memory, shared by the parts of the job queue. Each group of
// fields belongs to one of them and is touched under that one's lock only.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/base/mutex.h"
#include "server/base/run_context.h"
#include "server/jobs/admission.h"
#include "server/jobs/operation.h"
#include "server/jobs/operation_fold.h"
#include "server/jobs/operation_store.h"

namespace secateur {

using OperationObserver = std::function<void(const Operation&)>;

// Why work is asked to stop before its end.
enum class StopReason {
  kNone,
  kCancel,   // on request
  kSuspend,  // this process shuts down, or may be held for dead: somebody goes on
  kYield,    // the operation is another process's, or has ended
};

struct OperationEntry {
  explicit OperationEntry(std::string operation_id) : id(std::move(operation_id)) {}

  const std::string id;

  // One change at a time: held while the store works, so threads of gRPC never take it. Taken
  // before all other locks.
  Mutex transition;

  // OperationJournal's.
  std::vector<StoredEvent> events ABSL_GUARDED_BY(transition);  // read and written; none once done
  OperationStore::Keys keys ABSL_GUARDED_BY(transition);        // in the store when last seen
  std::deque<StoredEvent> unwritten ABSL_GUARDED_BY(transition);  // oldest first
  bool refused ABSL_GUARDED_BY(transition) = false;               // by the store, and logged
  bool gone ABSL_GUARDED_BY(transition) = false;                  // deleted, here or elsewhere
  std::atomic<bool> behind{false};  // the store: something is unwritten

  // OperationSteps'. The epoch in which this process owned it last; 0: never.
  int64_t own_epoch ABSL_GUARDED_BY(transition) = 0;

  // OperationRegistry's.
  struct Shown {
    Operation operation;
    std::map<int64_t, OperationObserver> observers;
    absl::Time phase_start = absl::InfinitePast();  // past: no phase is under way
    absl::Time last_notified = absl::InfinitePast();
  } shown;

  // JobWorkers'.
  struct Work {
    enum class At { kNowhere, kQueue, kWorker } at = At::kNowhere;
    std::unique_ptr<RunContext> context;
    StopReason stop = StopReason::kNone;
    absl::Time queue_time;
    Admission::Reservation place;  // as long as it is here
  } work;
};

using OperationEntryPtr = std::shared_ptr<OperationEntry>;

}  // namespace secateur
