// Operations: a bounded queue of jobs, the workers that run them, and what callers see of them.
// They are kept in a store that several processes may share; each answers for all of them
// (server/decisions/0012-leases.md).
//
// Thread-safe. Only Observe and Unobserve may be called on gRPC's threads: all else may work with
// the store. Observers run on the queue's threads or inside the call that registers them; they must
// be quick and must not call back into the queue. Nothing grows without bound: `max_queued` jobs
// wait beside those that run (what is adopted comes on top), `max_operations` operations are
// remembered (the oldest finished one is forgotten first).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/process_id.h"
#include "server/base/ticker.h"
#include "server/jobs/admission.h"
#include "server/jobs/leases.h"
#include "server/jobs/operation_journal.h"
#include "server/jobs/operation_poll.h"
#include "server/jobs/operation_registry.h"
#include "server/jobs/operation_steps.h"
#include "server/jobs/operation_store.h"
#include "server/metrics/metrics.h"
#include "server/storage/blob_store.h"

namespace secateur {

class JobQueue {
 public:
  struct Options {
    int workers = 2;          // at least 1
    int64_t max_queued = 64;  // more: RESOURCE_EXHAUSTED with a time to try again
    // As Admission's; each counts from acceptance to the end here.
    int64_t max_per_tenant = 0;
    int64_t max_memory_bytes = 0;
    std::function<DiskRoom()> disk = [] { return DiskRoom(); };
    // What an operation takes, told from its request. Quick; called on any thread.
    std::function<JobNeeds(const OperationRequest&)> needs = [](const OperationRequest&) {
      return JobNeeds();
    };
    std::string tenant = "tenants/default";  // whose operations these are
    // What waits longer in this process's queue ends as FAILED, reason QUEUE_DEADLINE, by a timer:
    // also while no worker is free. Time in other processes' queues does not count.
    absl::Duration max_queue_time = absl::InfiniteDuration();
    absl::Duration retry_after = absl::Seconds(5);
    // Done operations are forgotten then, and the oldest of them when more operations are known.
    absl::Duration keep_done = absl::Hours(24 * 30);
    int64_t max_operations = 4096;
    // Starts of one operation. One that was running each time when a process ended without saying
    // so is FAILED: it may be the cause.
    int64_t max_starts = 3;
    // How long a process that says nothing counts as alive. Renewed six times within.
    absl::Duration lease = absl::Seconds(60);
    // How often what others do is looked at. Zero: only by Poll(), for tests.
    absl::Duration poll_every = absl::Seconds(1);
    // Called on a worker before the job of an operation that another process has had: what that one
    // stored is then to be known here.
    std::function<void()> before_adopted;
    // Asked before work is accepted that is not done already; what it says is the answer then.
    std::function<absl::Status()> admit = [] { return absl::OkStatus(); };
    ProcessId self = ProcessId::OfThis();  // for others on this machine
  };
  using Observer = OperationObserver;

  // `blobs`, `clock` and `metrics` must outlive the queue.
  JobQueue(Options options, std::map<std::string, JobFactory> factories, BlobStore& blobs,
           const Clock& clock, Metrics& metrics);
  // Drain(0).
  ~JobQueue();

  // Begins this process's lease and reads all operations of the store; before any other call. What
  // nobody alive owns waits for Resume(), or ends: CANCELLED where that had been asked for, FAILED
  // after Options::max_starts.
  absl::Status Restore();
  // What nobody alive owns is adopted from the next poll on, oldest first, whatever max_queued is.
  void Resume();
  // As happens by itself every 200 ms where there is a max_queue_time.
  void EndOverdue() { steps_.EndOverdue(options_.max_queue_time); }
  // Looks at the store once, as happens by itself every Options::poll_every.
  void Poll() { poll_.Poll(); }

  // Accepts work. With a request_id the operation's id follows from method and request_id: the same
  // request again is the same operation, whichever process it reaches; another one is
  // INVALID_ARGUMENT. UNAVAILABLE while draining.
  absl::StatusOr<Operation> Submit(const OperationRequest& request);
  // An operation that is done at once: a cached result by the same road.
  absl::StatusOr<Operation> SubmitDone(const OperationRequest& request, TypedBytes result);

  // NOT_FOUND. Of other processes' operations the state, as of the last poll, and no progress.
  absl::StatusOr<Operation> Get(const std::string& id);
  std::vector<Operation> List();  // newest first
  // Asks a job to stop, in whichever process it is; one that waits here is cancelled at once. OK
  // also when it is done.
  absl::Status Cancel(const std::string& id);
  // Forgets a done operation; FAILED_PRECONDITION when it is not done. Other processes may still
  // show it until they list operations next.
  absl::Status Delete(const std::string& id);

  // Calls `observer` with the present state, then at every change until the operation is done or
  // Unobserve(); progress reports come at most every 200 ms. Returns a ticket. NOT_FOUND when it is
  // not known here: Get() asks the store, and makes it known.
  absl::StatusOr<int64_t> Observe(const std::string& id, Observer observer);
  // No call of the observer is running or follows when this returns. OK for a ticket already gone.
  void Unobserve(int64_t ticket);

  // Refuses new work; returns when everything that this process works on is done or `timeout` has
  // passed, then suspends the rest and waits for it to stop: observers are told, the lease is
  // removed, and any other process goes on at once.
  void Drain(absl::Duration timeout);

  // A time that has passed by the store's own clock; InfinitePast() before Restore().
  absl::Time StoreTime() const { return leases_.store_now(); }

  const std::string& owner() const { return leases_.owner(); }  // this process's name

 private:
  class Arrival;

  absl::StatusOr<Operation> Accept(const OperationRequest& request,
                                   std::optional<TypedBytes> result);
  absl::StatusOr<Operation> Create(const std::string& id, const OperationRequest& request,
                                   std::optional<TypedBytes> result, Admission::Reservation place);
  // Puts an accepted operation to work, or ends it, unless it is another process's.
  Operation Begin(const OperationEntryPtr& entry, std::optional<TypedBytes> result,
                  Admission::Reservation place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry->transition);

  const Options options_;
  const Clock& clock_;
  Metrics& metrics_;
  OperationStore store_;
  OperationRegistry registry_;
  Leases leases_;
  OperationJournal journal_;
  Admission admission_;
  OperationSteps steps_;
  OperationPoll poll_;
  std::unique_ptr<Ticker> deadline_;  // written by Restore() and Drain() alone

  Mutex mutex_;
  CondVar changed_;
  std::set<std::string> arriving_ ABSL_GUARDED_BY(mutex_);  // ids that are being accepted
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace secateur
