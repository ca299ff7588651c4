#include "server/jobs/job_queue.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "server/base/digest.h"
#include "server/base/errors.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/operation_errors.h"

namespace secateur {
namespace {

using Kind = OperationEvent::Kind;

constexpr std::chrono::milliseconds kDeadlineEvery(200);

std::string IdFor(const OperationRequest& request) {
  Sha256 hash;
  if (!request.request_id.empty()) {
    hash.UpdateField(request.method);
    hash.UpdateField(request.request_id);
  } else {
    std::random_device random;
    for (int i = 0; i < 4; ++i) hash.UpdateField((uint64_t{random()} << 32) | random());
  }
  return hash.Finish().Id('o');
}

// OK when `request` is the one that made the operation.
absl::Status CheckSame(const std::string& id, const OperationRequest& made,
                       const OperationRequest& request) {
  if (made.request == request.request) return absl::OkStatus();
  return WithField(WithReason(absl::InvalidArgumentError(StrCat(
                                  "request_id \"", request.request_id, "\" was used for another ",
                                  request.method, " request (operations/", id,
                                  "): give each request an id of its own, or leave it empty")),
                              "REQUEST_ID_REUSED"),
                   "request_id");
}

}  // namespace

// While it lives, nothing else is accepted under its id, and a drain waits.
class JobQueue::Arrival {
 public:
  Arrival(JobQueue& queue, const std::string& id) : queue_(queue), id_(id) {
    MutexLock lock(queue_.mutex_);
    while (queue_.arriving_.contains(id_)) queue_.changed_.Wait(queue_.mutex_);
    queue_.arriving_.insert(id_);
  }
  ~Arrival() {
    MutexLock lock(queue_.mutex_);
    queue_.arriving_.erase(id_);
    queue_.changed_.NotifyAll();
  }
  // Unless `needs_place`, only whether anything is accepted.
  absl::StatusOr<Admission::Reservation> Admit(const OperationRequest& request, bool needs_place) {
    {
      MutexLock lock(queue_.mutex_);
      if (queue_.draining_) return DrainingError();
    }
    if (!needs_place) return Admission::Reservation();
    if (!queue_.steps_.Knows(request.method)) {
      return absl::InternalError(StrCat("no factory makes jobs for ", request.method));
    }
    return queue_.admission_.Reserve(queue_.options_.tenant, queue_.options_.needs(request));
  }

 private:
  JobQueue& queue_;
  const std::string id_;
};

JobQueue::JobQueue(Options options, std::map<std::string, JobFactory> factories, BlobStore& blobs,
                   const Clock& clock, Metrics& metrics)
    : options_(std::move(options)),
      clock_(clock),
      metrics_(metrics),
      store_(blobs),
      registry_(clock, metrics),
      leases_(blobs, clock, {.ttl = options_.lease, .self = options_.self}),
      journal_(store_, registry_, leases_.owner()),
      admission_({.operations = options_.workers + options_.max_queued,
                  .operations_per_tenant = options_.max_per_tenant,
                  .running = options_.workers,
                  .memory_bytes = options_.max_memory_bytes,
                  .disk = options_.disk,
                  .retry_after = options_.retry_after,
                  .on_change =
                      [&metrics](const Admission::Use& use) {
                        metrics.reserved_memory.Set(static_cast<double>(use.memory_bytes));
                        metrics.reserved_disk.Set(static_cast<double>(use.disk_bytes));
                      }}),
      steps_({.factories = std::move(factories),
              .before_adopted = options_.before_adopted,
              .max_starts = options_.max_starts,
              .workers = options_.workers,
              .take_on =
                  [this](const OperationRequest& request) {
                    return admission_.TakeOn(options_.tenant, options_.needs(request));
                  },
              .registry = registry_,
              .journal = journal_,
              .leases = leases_,
              .clock = clock,
              .metrics = metrics}),
      poll_({.every = options_.poll_every,
             .keep_done = options_.keep_done,
             .max_operations = options_.max_operations,
             .arriving =
                 [this](const std::string& id) {
                   MutexLock lock(mutex_);
                   return arriving_.contains(id);
                 },
             .store = store_,
             .registry = registry_,
             .journal = journal_,
             .leases = leases_,
             .steps = steps_,
             .clock = clock}) {}

JobQueue::~JobQueue() { Drain(absl::ZeroDuration()); }

absl::Status JobQueue::Restore() {
  RETURN_IF_ERROR(poll_.Restore());
  if (options_.max_queue_time < absl::InfiniteDuration()) {
    deadline_ = std::make_unique<Ticker>(kDeadlineEvery, [this] { EndOverdue(); });
  }
  return absl::OkStatus();
}

void JobQueue::Resume() {
  {
    MutexLock lock(mutex_);
    if (draining_) return;
  }
  poll_.Adopt(true);
}

absl::StatusOr<Operation> JobQueue::Submit(const OperationRequest& request) {
  absl::StatusOr<Operation> accepted = Accept(request, std::nullopt);
  const bool refused =
      absl::IsResourceExhausted(accepted.status()) || absl::IsUnavailable(accepted.status());
  if (refused) metrics_.OperationRefused(request.method, NotesOf(accepted.status()).reason);
  return accepted;
}

absl::StatusOr<Operation> JobQueue::SubmitDone(const OperationRequest& request, TypedBytes result) {
  return Accept(request, std::move(result));
}

absl::StatusOr<Operation> JobQueue::Accept(const OperationRequest& request,
                                           std::optional<TypedBytes> result) {
  const std::string id = IdFor(request);
  Arrival arrival(*this, id);
  if (!request.request_id.empty()) {
    const absl::StatusOr<OperationEntryPtr> known = poll_.Find(id);
    if (known.ok()) {
      Operation operation = registry_.Get(**known);
      RETURN_IF_ERROR(CheckSame(id, operation.request, request));
      return operation;
    }
    if (!absl::IsNotFound(known.status())) return known.status();
  }
  if (!result) RETURN_IF_ERROR(options_.admit());
  ASSIGN_OR_RETURN(Admission::Reservation place,
                   arrival.Admit(request, /*needs_place=*/!result.has_value()));
  // Others would take at once what a process accepts that they hold for dead.
  if (!leases_.held()) RETURN_IF_ERROR(leases_.Renew());
  auto accepted = Create(id, request, std::move(result), std::move(place));
  poll_.Forget();
  return accepted;
}

absl::StatusOr<Operation> JobQueue::Create(const std::string& id, const OperationRequest& request,
                                           std::optional<TypedBytes> result,
                                           Admission::Reservation place) {
  auto entry = std::make_shared<OperationEntry>(id);
  MutexLock lock(entry->transition);
  int64_t epoch = 1;
  const bool named = !request.request_id.empty();
  if (named) {  // behind what a damaged beginning may have left
    ASSIGN_OR_RETURN(const OperationStore::Keys keys, store_.KeysOf(id));
    if (!keys.empty()) epoch = keys.rbegin()->epoch + 1;
  }
  RETURN_IF_ERROR(journal_.WriteNow(
      *entry, epoch, {.kind = Kind::kCreated, .time = clock_.Now(), .request = request}));
  if (named) RETURN_IF_ERROR(journal_.Read(*entry));  // another process may accept it, too
  for (const StoredEvent& stored : entry->events) {
    if (stored.event.kind != Kind::kCreated) continue;
    absl::Status same = CheckSame(id, stored.event.request, request);
    if (same.ok()) continue;
    // Nobody has been told of ours yet.
    store_.Remove(id, {epoch, leases_.owner(), 1}).IgnoreError();
    return same;
  }
  const OperationEntryPtr known = registry_.Add(entry, registry_.Get(*entry));
  if (known == entry) return Begin(entry, std::move(result), std::move(place));
  MutexLock also(known->transition);  // the other's was found meanwhile
  RETURN_IF_ERROR(journal_.Read(*known));
  return Begin(known, std::move(result), std::move(place));
}

Operation JobQueue::Begin(const OperationEntryPtr& entry, std::optional<TypedBytes> result,
                          Admission::Reservation place) {
  Operation operation = registry_.Get(*entry);
  const bool other = IsDone(operation.state) || operation.owner != leases_.owner();
  if (other || steps_.workers().Has(*entry)) return operation;
  if (!result) {
    steps_.TakeOn(entry, std::move(place));
    return operation;
  }
  entry->own_epoch = operation.epoch;
  metrics_.OperationStarted(operation.request.method);
  steps_.End(*entry, {.kind = Kind::kSucceeded, .result = *std::move(result)});
  return registry_.Get(*entry);
}

absl::StatusOr<Operation> JobQueue::Get(const std::string& id) {
  ASSIGN_OR_RETURN(const OperationEntryPtr entry, poll_.Find(id));
  return registry_.Get(*entry);
}

std::vector<Operation> JobQueue::List() {
  poll_.Refresh();
  return registry_.List();
}

absl::Status JobQueue::Cancel(const std::string& id) {
  ASSIGN_OR_RETURN(const OperationEntryPtr entry, poll_.Find(id));
  return steps_.Cancel(entry);
}

absl::Status JobQueue::Delete(const std::string& id) {
  ASSIGN_OR_RETURN(const OperationEntryPtr entry, poll_.Find(id));
  if (!IsDone(registry_.Get(*entry).state)) steps_.Follow(entry);  // it may be done elsewhere
  MutexLock lock(entry->transition);
  if (entry->gone) return OperationNotFound(id);
  if (!IsDone(registry_.Get(*entry).state)) {
    return absl::FailedPreconditionError(
        StrCat("operations/", id, " is not done: cancel it first, or wait"));
  }
  RETURN_IF_ERROR(journal_.Delete(*entry));
  registry_.Remove(*entry);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> JobQueue::Observe(const std::string& id, Observer observer) {
  return registry_.Observe(id, std::move(observer));
}

void JobQueue::Unobserve(int64_t ticket) { registry_.Unobserve(ticket); }

void JobQueue::Drain(absl::Duration timeout) {
  {
    MutexLock lock(mutex_);
    draining_ = true;
    while (!arriving_.empty()) changed_.Wait(mutex_);
  }
  poll_.Adopt(false);
  steps_.workers().WaitUntilIdle(clock_.Now() + timeout);
  for (const OperationEntryPtr& entry : registry_.Unsettled()) {
    if (steps_.workers().Has(*entry)) steps_.Suspend(entry);
  }
  steps_.workers().WaitUntilIdle(absl::InfiniteFuture());
  poll_.Stop();
  if (deadline_) deadline_->Stop();
  for (const OperationEntryPtr& entry : registry_.Unsettled()) {
    MutexLock lock(entry->transition);
    journal_.Flush(*entry);
  }
  leases_.Release();  // not before what is suspended says so
  for (const OperationEntryPtr& entry : registry_.Unsettled()) registry_.Suspend(*entry);
}

}  // namespace secateur
