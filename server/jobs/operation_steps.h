// What this process does with one operation at a time: takes it on, runs, cancels, suspends and
// ends it, follows what other processes write, and adopts what nobody alive owns.
//
// An owner is lowest in the epoch that it claimed; whoever finds another in its place yields: its
// work stops and nothing more is written of it, unless it has just succeeded. A process whose lease
// may have lapsed suspends its work; it and all others may then adopt it. Two that adopt at once
// write into the same epoch, look once more, and the lower name stays. Both may have started by
// then, which costs time and nothing else: every step of the work is named by its content.
//
// Thread-safe; takes an entry's `transition` and works with the store under it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/run_context.h"
#include "server/jobs/admission.h"
#include "server/jobs/job_workers.h"
#include "server/jobs/leases.h"
#include "server/jobs/operation_journal.h"
#include "server/jobs/operation_registry.h"
#include "server/metrics/metrics.h"

namespace secateur {

// The work behind an operation. Runs once, on one worker.
using Job = absl::AnyInvocable<absl::StatusOr<TypedBytes>(RunContext&)>;
// Makes the job of a method from the serialized request; called on the worker.
using JobFactory = std::function<absl::StatusOr<Job>(const OperationRequest&)>;

class OperationSteps {
 public:
  struct Parts {
    std::map<std::string, JobFactory> factories;
    // Called on the worker before the job of an operation that another process has had: what that
    // one stored is then to be known here.
    std::function<void()> before_adopted;
    int64_t max_starts = 3;
    int workers = 2;
    // A place for what was accepted before.
    std::function<Admission::Reservation(const OperationRequest&)> take_on;
    OperationRegistry& registry;
    OperationJournal& journal;
    Leases& leases;
    const Clock& clock;
    Metrics& metrics;
  };
  // What `parts` refers to must outlive it.
  explicit OperationSteps(Parts parts);

  bool Knows(const std::string& method) const { return parts_.factories.contains(method); }
  JobWorkers& workers() { return workers_; }

  // Queues an operation that this process has just accepted, with its place.
  void TakeOn(const OperationEntryPtr& entry, Admission::Reservation place)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry->transition);
  // Ends an operation of this process: writes, counts and logs it.
  void End(OperationEntry& entry, OperationEvent end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);

  // Asks for the operation to stop; one that waits here, or that nobody alive owns, is cancelled at
  // once. OK also when it is done. The store's error when that must reach another process and
  // cannot.
  absl::Status Cancel(const OperationEntryPtr& entry);
  // Reads what others wrote and does as it says. False when the operation is gone.
  bool Follow(const OperationEntryPtr& entry);
  // Takes the operation over if nobody alive owns it. `only_ends`: only if that ends it at once.
  void AdoptOrphan(const OperationEntryPtr& entry, bool only_ends);
  // Ends as FAILED, reason QUEUE_DEADLINE, what has waited here for longer than `limit`.
  void EndOverdue(absl::Duration limit);
  // Stops what runs here and takes back what waits; somebody is to go on.
  void Suspend(const OperationEntryPtr& entry);

 private:
  void Run(const OperationEntryPtr& entry, RunContext& context);
  absl::StatusOr<TypedBytes> Execute(const OperationRequest& request, bool adopted,
                                     RunContext& context) const;
  void Finish(OperationEntry& entry, absl::StatusOr<TypedBytes> result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  bool IsOrphan(const OperationEntry& entry, const Operation& operation) const;
  bool IsOurs(const OperationEntry& entry, const Operation& operation) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  // Claims the next epoch. False when the operation is another's, or the store refuses.
  bool Claim(const OperationEntryPtr& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry->transition);
  // How an operation that was left ends that is not to go on.
  std::optional<OperationEvent> EndOfLeft(const Operation& operation) const;
  void CancelHere(const OperationEntryPtr& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry->transition);

  const Parts parts_;
  OperationRegistry& registry_;
  OperationJournal& journal_;
  Leases& leases_;
  JobWorkers workers_;  // last: joins before the rest goes
};

}  // namespace secateur
