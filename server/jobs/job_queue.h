// A bounded queue of jobs, the workers that run them, and the operations by which callers see them.
//
// Thread-safe. Callbacks run on the queue's threads or inside the call that registers them; they
// must be quick and must not call back into the queue. Nothing grows without bound: `max_queued`
// jobs wait, `max_operations` operations are remembered (the oldest finished one is forgotten
// first).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/run_context.h"
#include "server/jobs/operation.h"
#include "server/jobs/operation_journal.h"
#include "server/jobs/operation_store.h"
#include "server/metrics/metrics.h"

namespace secateur {

// The work behind an operation. Runs once, on one worker.
using Job = absl::AnyInvocable<absl::StatusOr<TypedBytes>(RunContext&)>;
// Makes the job of a method from the serialized request; called on the worker.
using JobFactory = std::function<absl::StatusOr<Job>(const OperationRequest&)>;

class JobQueue {
 public:
  struct Options {
    int workers = 2;          // at least 1
    int64_t max_queued = 64;  // more: RESOURCE_EXHAUSTED with a time to try again
    int64_t max_operations = 4096;
    absl::Duration retry_after = absl::Seconds(5);
    absl::Duration keep_done = absl::Hours(24 * 30);  // then done operations are forgotten
    // Starts of one operation. One that was running each time when a process ended without saying
    // so is FAILED: it may be the cause.
    int64_t max_starts = 3;
  };
  using Observer = std::function<void(const Operation&)>;

  // `store`, `clock` and `metrics` must outlive the queue.
  JobQueue(Options options, std::map<std::string, JobFactory> factories, OperationStore& store,
           const Clock& clock, Metrics& metrics);
  // Cancels what runs and joins.
  ~JobQueue();

  // Takes up all operations of the store, before any other call: those that are done can be asked
  // for; those that are not wait for Resume(), or end: CANCELLED where that had been asked for,
  // FAILED after Options::max_starts. REQUIRES: no other process works on them.
  absl::Status Restore();
  // Queues what Restore() found, oldest first, whatever Options::max_queued says.
  void Resume();

  // Accepts work. With a request_id the operation's id follows from method and request_id: the same
  // request again is the same operation, another one INVALID_ARGUMENT. UNAVAILABLE while draining.
  absl::StatusOr<Operation> Submit(OperationRequest request);
  // An operation that is done at once: a cached result by the same road.
  absl::StatusOr<Operation> SubmitDone(OperationRequest request, TypedBytes result);

  absl::StatusOr<Operation> Get(const std::string& id) const;  // NOT_FOUND
  std::vector<Operation> List() const;                         // newest first
  // Asks a job to stop; a queued one is cancelled at once. OK also when it is done.
  absl::Status Cancel(const std::string& id);
  // Forgets a done operation; FAILED_PRECONDITION when it is not done.
  absl::Status Delete(const std::string& id);

  // Calls `observer` with the present state, then at every change until the operation is done or
  // Unobserve(); progress reports come at most every 200 ms. Returns a ticket. NOT_FOUND.
  absl::StatusOr<int64_t> Observe(const std::string& id, Observer observer);
  // No call of the observer is running or follows when this returns. OK for a ticket already gone.
  void Unobserve(int64_t ticket);

  // Refuses new work; returns when everything accepted is done or `timeout` has passed, then
  // cancels the rest and waits for it to stop. With a durable store the rest is suspended:
  // observers are told, and the next process goes on. Else it ends as FAILED with UNAVAILABLE.
  void Drain(absl::Duration timeout);

 private:
  struct Entry;
  struct Subscription;

  void Work();
  void RunOne(const std::shared_ptr<Entry>& entry);
  absl::StatusOr<TypedBytes> Execute(const std::shared_ptr<Entry>& entry);
  void Report(const std::shared_ptr<Entry>& entry, const Progress& progress);
  absl::StatusOr<std::shared_ptr<Entry>> Accept(OperationRequest request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Operation> Known(const std::string& id, const OperationRequest& request) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Writes the event, applies it, tells observers.
  void Apply(Entry& entry, const OperationEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Notify(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(absl::Time now, int64_t arriving) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Entry> Remember(Operation operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends an operation that an earlier process left and that is not to go on; else false.
  bool EndLeft(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Suspend(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const std::map<std::string, JobFactory> factories_;
  OperationStore& store_;
  const Clock& clock_;
  Metrics& metrics_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> by_age_ ABSL_GUARDED_BY(mutex_);  // ids, oldest first
  std::deque<std::shared_ptr<Entry>> queue_ ABSL_GUARDED_BY(mutex_);
  OperationJournal journal_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Entry>> restored_ ABSL_GUARDED_BY(mutex_);  // until Resume()
  std::map<int64_t, std::string> tickets_ ABSL_GUARDED_BY(mutex_);       // ticket to operation id
  int64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t unfinished_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool drain_cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> workers_;
};

}  // namespace secateur
