// The operations that this process knows, as callers see them, and who watches them.
//
// Thread-safe and quick: nothing here works with the store, so gRPC's threads may call it.
// Observers are called under its lock, on the thread that shows the change or registers them; they
// must be quick and must not call back.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/jobs/operation_entry.h"
#include "server/metrics/metrics.h"

namespace secateur {

class OperationRegistry {
 public:
  // Both outlive it.
  OperationRegistry(const Clock& clock, Metrics& metrics) : clock_(clock), metrics_(metrics) {}

  OperationEntryPtr Find(const std::string& id) const;  // null when it is not known
  // Makes an entry known that shows `operation`; or returns the one that is known under its id.
  OperationEntryPtr Add(OperationEntryPtr entry, Operation operation);
  // Whoever watches is told to ask elsewhere.
  void Remove(OperationEntry& entry);

  // Replaces what is shown but the progress of work that goes on, and tells observers.
  void Show(OperationEntry& entry, Operation operation);
  // Nobody alive is at it: shows as waiting what was running.
  void ShowLeft(OperationEntry& entry);
  // Counts the time of the phase before where this begins another.
  void Report(OperationEntry& entry, const Progress& progress);
  // The work at it here has ended, and the last phase with it.
  void EndPhase(OperationEntry& entry);
  // This process has nothing more to tell about it: ends what observes it.
  void Suspend(OperationEntry& entry);

  Operation Get(const OperationEntry& entry) const;
  std::vector<Operation> List() const;  // the last that became known first
  std::vector<OperationEntryPtr> All() const;
  // What is not done, or not written to its end; oldest first.
  std::vector<OperationEntryPtr> Unsettled() const;
  // What is done and ended before `before`, and the oldest that is done where more than `most` are
  // known; a few at a time.
  std::vector<OperationEntryPtr> ToForget(absl::Time before, int64_t most) const;

  // As JobQueue's.
  absl::StatusOr<int64_t> Observe(const std::string& id, OperationObserver observer);
  void Unobserve(int64_t ticket);

 private:
  void EndPhase(OperationEntry& entry, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Notify(OperationEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropObservers(OperationEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  Metrics& metrics_;
  mutable Mutex mutex_;
  std::map<std::string, OperationEntryPtr> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<OperationEntryPtr> by_age_ ABSL_GUARDED_BY(mutex_);  // the first known first
  std::map<int64_t, OperationEntryPtr> tickets_ ABSL_GUARDED_BY(mutex_);
  int64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace secateur
