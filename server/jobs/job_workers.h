// The queue of work and the threads that do it, in the order in which it came.
//
// Thread-safe. Nothing here works with the store; `run` does, on a worker and without a lock.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/run_context.h"
#include "server/jobs/operation_entry.h"
#include "server/metrics/metrics.h"

namespace secateur {

class JobWorkers {
 public:
  using Run = std::function<void(const OperationEntryPtr& entry, RunContext& context)>;
  using Sink = std::function<void(OperationEntry& entry, const Progress& progress)>;

  // `run` does all of the work of an entry, `report` takes its progress. `clock` and `metrics` must
  // outlive it.
  JobWorkers(int workers, Run run, Sink report, const Clock& clock, Metrics& metrics);
  // REQUIRES: Idle().
  ~JobWorkers();

  // REQUIRES: the entry is not here already.
  void Add(const OperationEntryPtr& entry, Admission::Reservation place);
  // Gives the place of an entry back before it leaves here: its work is over.
  void GiveBack(OperationEntry& entry);
  // Takes an entry out of the queue; false when it is not there, or a worker has it already.
  bool Withdraw(const OperationEntryPtr& entry);
  // The same for one that has waited for longer than `limit`: how long.
  std::optional<absl::Duration> WithdrawOverdue(const OperationEntryPtr& entry,
                                                absl::Duration limit);
  // Asks the worker that has the entry to stop. The first reason stays, but a request to cancel
  // beats one to suspend.
  void Stop(OperationEntry& entry, StopReason reason);
  StopReason ReasonToStop(const OperationEntry& entry) const;

  bool Has(const OperationEntry& entry) const;  // waits or is worked on
  // What has waited for longer than `limit`, in its order.
  std::vector<OperationEntryPtr> Overdue(absl::Duration limit) const;
  bool Idle() const;  // nothing waits and nobody works
  // Waits until Idle(), or until `deadline`.
  void WaitUntilIdle(absl::Time deadline);

 private:
  void Work();
  bool Remove(const OperationEntryPtr& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration Waited(const OperationEntry& entry) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Run run_;
  const Sink report_;
  const Clock& clock_;
  Metrics& metrics_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<OperationEntryPtr> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t working_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace secateur
