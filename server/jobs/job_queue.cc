#include "server/jobs/job_queue.h"

#include <algorithm>
#include <iterator>
#include <random>
#include <tuple>
#include <utility>

#include "server/base/digest.h"
#include "server/base/errors.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/operation_errors.h"

namespace secateur {
namespace {

constexpr absl::Duration kNotifyEvery = absl::Milliseconds(200);
// Operations that one call removes from the store while all others wait.
constexpr int64_t kMostForgotten = 16;

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

std::string_view Name(OperationState state) {
  switch (state) {
    case OperationState::kQueued:
      return "queued";
    case OperationState::kRunning:
      return "running";
    case OperationState::kSucceeded:
      return "succeeded";
    case OperationState::kFailed:
      return "failed";
    case OperationState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

}  // namespace

struct JobQueue::Entry {
  Operation operation;
  std::unique_ptr<RunContext> context;
  std::map<int64_t, Observer> observers;
  absl::Time queue_time;
  absl::Time phase_start;
  absl::Time last_notified = absl::InfinitePast();
};

JobQueue::JobQueue(Options options, std::map<std::string, JobFactory> factories,
                   OperationStore& store, const Clock& clock, Metrics& metrics)
    : options_(options),
      factories_(std::move(factories)),
      store_(store),
      clock_(clock),
      metrics_(metrics),
      journal_(store) {
  for (int i = 0; i < options_.workers; ++i) workers_.emplace_back([this] { Work(); });
}

JobQueue::~JobQueue() {
  Drain(absl::ZeroDuration());
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  for (std::thread& worker : workers_) worker.join();
}

absl::StatusOr<Operation> JobQueue::Known(const std::string& id,
                                          const OperationRequest& request) const {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return absl::NotFoundError("");
  if (found->second->operation.request.request != request.request) {
    return WithField(WithReason(absl::InvalidArgumentError(StrCat(
                                    "request_id \"", request.request_id, "\" was used for another ",
                                    request.method, " request (operations/", id,
                                    "): give each request an id of its own, or leave it empty")),
                                "REQUEST_ID_REUSED"),
                     "request_id");
  }
  return found->second->operation;
}

std::shared_ptr<JobQueue::Entry> JobQueue::Remember(Operation operation) {
  auto entry = std::make_shared<Entry>();
  entry->operation = std::move(operation);
  const std::string& id = entry->operation.id;
  entries_[id] = entry;
  by_age_.push_back(id);
  if (IsDone(entry->operation.state)) return entry;
  entry->context = std::make_unique<RunContext>(
      [this, weak = std::weak_ptr<Entry>(entry)](const Progress& progress) {
        if (auto live = weak.lock()) Report(live, progress);
      });
  metrics_.OperationStarted(entry->operation.request.method);
  ++unfinished_;
  return entry;
}

absl::StatusOr<std::shared_ptr<JobQueue::Entry>> JobQueue::Accept(OperationRequest request) {
  const std::string id = IdFor(request);
  const absl::Time now = clock_.Now();
  OperationEvent created{.kind = OperationEvent::Kind::kCreated, .time = now, .request = request};
  RETURN_IF_ERROR(journal_.Begin(id, created));
  Forget(now, /*arriving=*/1);
  return Remember({.id = id, .request = std::move(request), .create_time = now});
}

absl::Status JobQueue::Restore() {
  ASSIGN_OR_RETURN(const auto stored, store_.Load());
  std::vector<Operation> operations;
  for (const auto& [id, events] : stored) {
    ASSIGN_OR_RETURN(operations.emplace_back(), Fold(id, events));
  }
  std::sort(operations.begin(), operations.end(), [](const Operation& a, const Operation& b) {
    return std::tie(a.create_time, a.id) < std::tie(b.create_time, b.id);
  });
  MutexLock lock(mutex_);
  for (Operation& operation : operations) {
    // Whoever was at it is gone.
    if (operation.state == OperationState::kRunning) operation.state = OperationState::kQueued;
    const auto entry = Remember(std::move(operation));
    if (IsDone(entry->operation.state)) continue;
    if (!EndLeft(*entry)) restored_.push_back(entry);
  }
  Forget(clock_.Now(), /*arriving=*/0);
  return absl::OkStatus();
}

bool JobQueue::EndLeft(Entry& entry) {
  const Operation& operation = entry.operation;
  OperationEvent end{.time = clock_.Now()};
  if (operation.cancel_requested) {
    end.kind = OperationEvent::Kind::kCancelled;
    end.error = absl::CancelledError("cancelled, and the server stopped before the work did");
  } else if (operation.starts >= options_.max_starts) {
    end.kind = OperationEvent::Kind::kFailed;
    end.error = absl::InternalError(StrCat("the server stopped ", operation.starts,
                                           " times while this ran, and does not try again: its log "
                                           "may say why"));
  } else if (!factories_.contains(operation.request.method)) {
    end.kind = OperationEvent::Kind::kFailed;
    end.error = absl::UnimplementedError(
        StrCat("this version of the server knows no ", operation.request.method));
  } else {
    return false;
  }
  Apply(entry, end);
  return true;
}

void JobQueue::Resume() {
  MutexLock lock(mutex_);
  if (draining_) return;
  for (const std::shared_ptr<Entry>& entry : std::exchange(restored_, {})) {
    entry->queue_time = clock_.Now();
    queue_.push_back(entry);
  }
  metrics_.job_queue_length.Set(static_cast<double>(queue_.size()));
  changed_.NotifyAll();
}

void JobQueue::Suspend(Entry& entry) {
  if (entry.operation.state == OperationState::kRunning) {
    // Where this cannot be written it counts as one more start.
    const OperationEvent event{.kind = OperationEvent::Kind::kSuspended, .time = clock_.Now()};
    journal_.Write(entry.operation.id, event);
    Advance(event, entry.operation);
  }
  --unfinished_;
  entry.operation.suspended = true;
  for (auto& [ticket, observer] : entry.observers) {
    observer(entry.operation);
    tickets_.erase(ticket);
  }
  entry.observers.clear();
  changed_.NotifyAll();
}

absl::StatusOr<Operation> JobQueue::Submit(OperationRequest request) {
  MutexLock lock(mutex_);
  if (!request.request_id.empty()) {
    auto known = Known(IdFor(request), request);
    if (!absl::IsNotFound(known.status())) return known;
  }
  if (draining_) return DrainingError();
  if (static_cast<int64_t>(queue_.size()) >= options_.max_queued) {
    return WithReason(WithRetryAfter(absl::ResourceExhaustedError(StrCat(
                                         "the queue is full (", options_.max_queued,
                                         " operations wait): try again in a few seconds, or raise "
                                         "--max-queued-operations")),
                                     options_.retry_after),
                      "QUEUE_FULL");
  }
  if (!factories_.contains(request.method)) {
    return absl::InternalError(StrCat("no factory makes jobs for ", request.method));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<Entry> entry, Accept(std::move(request)));
  entry->queue_time = entry->operation.create_time;
  queue_.push_back(entry);
  metrics_.job_queue_length.Set(static_cast<double>(queue_.size()));
  changed_.NotifyAll();
  return entry->operation;
}

absl::StatusOr<Operation> JobQueue::SubmitDone(OperationRequest request, TypedBytes result) {
  MutexLock lock(mutex_);
  if (!request.request_id.empty()) {
    auto known = Known(IdFor(request), request);
    if (!absl::IsNotFound(known.status())) return known;
  }
  if (draining_) return DrainingError();
  ASSIGN_OR_RETURN(std::shared_ptr<Entry> entry, Accept(std::move(request)));
  Apply(*entry, {.kind = OperationEvent::Kind::kSucceeded,
                 .time = clock_.Now(),
                 .result = std::move(result)});
  return entry->operation;
}

absl::StatusOr<Operation> JobQueue::Get(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return OperationNotFound(id);
  return found->second->operation;
}

std::vector<Operation> JobQueue::List() const {
  MutexLock lock(mutex_);
  std::vector<Operation> operations;
  operations.reserve(by_age_.size());
  for (auto id = by_age_.rbegin(); id != by_age_.rend(); ++id) {
    operations.push_back(entries_.at(*id)->operation);
  }
  return operations;
}

absl::Status JobQueue::Cancel(const std::string& id) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return OperationNotFound(id);
  Entry& entry = *found->second;
  if (IsDone(entry.operation.state) || entry.operation.cancel_requested) return absl::OkStatus();
  entry.context->Cancel();
  Apply(entry, {.kind = OperationEvent::Kind::kCancelRequested, .time = clock_.Now()});
  if (entry.operation.state == OperationState::kQueued) {
    std::erase(queue_, found->second);
    std::erase(restored_, found->second);
    metrics_.job_queue_length.Set(static_cast<double>(queue_.size()));
    Apply(entry, {.kind = OperationEvent::Kind::kCancelled,
                  .time = clock_.Now(),
                  .error = absl::CancelledError("cancelled before it started")});
  }
  return absl::OkStatus();
}

absl::Status JobQueue::Delete(const std::string& id) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return OperationNotFound(id);
  if (!IsDone(found->second->operation.state)) {
    return absl::FailedPreconditionError(
        StrCat("operations/", id, " is not done: cancel it first, or wait"));
  }
  RETURN_IF_ERROR(journal_.Delete(id));
  entries_.erase(found);
  std::erase(by_age_, id);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> JobQueue::Observe(const std::string& id, Observer observer) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return OperationNotFound(id);
  const int64_t ticket = next_ticket_++;
  observer(found->second->operation);
  if (IsDone(found->second->operation.state)) return ticket;
  found->second->observers[ticket] = std::move(observer);
  tickets_[ticket] = id;
  return ticket;
}

void JobQueue::Unobserve(int64_t ticket) {
  MutexLock lock(mutex_);
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end()) return;
  if (const auto entry = entries_.find(found->second); entry != entries_.end()) {
    entry->second->observers.erase(ticket);
  }
  tickets_.erase(found);
}

void JobQueue::Drain(absl::Duration timeout) {
  const absl::Time deadline = clock_.Now() + timeout;
  MutexLock lock(mutex_);
  draining_ = true;
  // Nobody will start these.
  for (const std::shared_ptr<Entry>& entry : std::exchange(restored_, {})) Suspend(*entry);
  while (unfinished_ > 0 && clock_.Now() < deadline) {
    changed_.WaitFor(mutex_, std::chrono::milliseconds(20));
  }
  drain_cancelled_ = true;
  for (const std::shared_ptr<Entry>& entry : std::exchange(queue_, {})) {
    if (store_.durable()) {
      Suspend(*entry);
    } else {
      Apply(
          *entry,
          {.kind = OperationEvent::Kind::kFailed, .time = clock_.Now(), .error = ShutDownError()});
    }
  }
  for (auto& [id, entry] : entries_) {
    const Operation& operation = entry->operation;
    if (!IsDone(operation.state) && !operation.suspended) entry->context->Cancel();
  }
  while (unfinished_ > 0) changed_.Wait(mutex_);
  journal_.Flush();
}

void JobQueue::Work() {
  while (true) {
    std::shared_ptr<Entry> entry;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) changed_.Wait(mutex_);
      if (queue_.empty()) return;
      entry = queue_.front();
      queue_.pop_front();
      metrics_.job_queue_length.Set(static_cast<double>(queue_.size()));
      const absl::Time now = clock_.Now();
      metrics_.job_queue_wait.Observe(absl::ToDoubleSeconds(now - entry->queue_time));
      entry->phase_start = now;
      Apply(*entry, {.kind = OperationEvent::Kind::kStarted, .time = now});
    }
    RunOne(entry);
  }
}

void JobQueue::RunOne(const std::shared_ptr<Entry>& entry) {
  absl::StatusOr<TypedBytes> result = Execute(entry);
  MutexLock lock(mutex_);
  OperationEvent event{.time = clock_.Now()};
  if (result.ok()) {
    event.kind = OperationEvent::Kind::kSucceeded;
    event.result = *std::move(result);
  } else if (absl::IsCancelled(result.status()) && drain_cancelled_ &&
             !entry->operation.cancel_requested) {
    if (store_.durable()) return Suspend(*entry);
    event.kind = OperationEvent::Kind::kFailed;
    event.error = ShutDownError();
  } else {
    event.kind = absl::IsCancelled(result.status()) ? OperationEvent::Kind::kCancelled
                                                    : OperationEvent::Kind::kFailed;
    event.error = result.status();
  }
  Apply(*entry, event);
}

absl::StatusOr<TypedBytes> JobQueue::Execute(const std::shared_ptr<Entry>& entry) {
  ASSIGN_OR_RETURN(Job job,
                   factories_.at(entry->operation.request.method)(entry->operation.request));
  RETURN_IF_ERROR(entry->context->CheckCancelled());
  return job(*entry->context);
}

void JobQueue::Report(const std::shared_ptr<Entry>& entry, const Progress& progress) {
  MutexLock lock(mutex_);
  OperationProgress& seen = entry->operation.progress;
  const absl::Time now = clock_.Now();
  const bool new_phase = seen.phase != progress.phase;
  if (new_phase) entry->phase_start = now;
  const double seconds = absl::ToDoubleSeconds(now - entry->phase_start);
  seen.phase = progress.phase;
  seen.unit = progress.unit;
  seen.done = progress.done;
  seen.total = progress.total;
  seen.rate = seconds > 0 ? static_cast<double>(progress.done) / seconds : 0;
  seen.eta = seen.rate > 0 && seen.total > 0
                 ? absl::Seconds(static_cast<double>(seen.total - seen.done) / seen.rate)
                 : absl::InfiniteDuration();
  if (seen.unit == "tokens" && seen.rate > 0) seen.tokens_per_second = seen.rate;
  if (new_phase || now - entry->last_notified >= kNotifyEvery) Notify(*entry);
}

void JobQueue::Apply(Entry& entry, const OperationEvent& event) {
  Operation& operation = entry.operation;
  journal_.Write(operation.id, event);
  Advance(event, operation);
  if (IsDone(operation.state)) {
    if (!operation.suspended) --unfinished_;
    const double seconds = absl::ToDoubleSeconds(operation.end_time - operation.create_time);
    metrics_.OperationEnded(operation.request.method, Name(operation.state), seconds);
    Log(operation.state == OperationState::kFailed ? LogLevel::kWarning : LogLevel::kInfo,
        "operation done",
        {{"operation", operation.id},
         {"method", operation.request.method},
         {"target", operation.request.target},
         {"state", Name(operation.state)},
         {"seconds", seconds},
         {"error", operation.error.ok() ? std::string() : operation.error.ToString()}});
  }
  Notify(entry);
}

void JobQueue::Notify(Entry& entry) {
  entry.last_notified = clock_.Now();
  for (auto& [ticket, observer] : entry.observers) observer(entry.operation);
  if (IsDone(entry.operation.state)) {
    for (auto& [ticket, observer] : entry.observers) tickets_.erase(ticket);
    entry.observers.clear();
  }
  changed_.NotifyAll();
}

// What is done for too long, and the oldest that is done where there are too many; live ones are
// bounded by the queue and the workers.
void JobQueue::Forget(absl::Time now, int64_t arriving) {
  int64_t too_many = std::ssize(by_age_) - options_.max_operations + arriving;
  int64_t left = kMostForgotten;
  std::deque<std::string> kept;
  for (const std::string& id : by_age_) {
    const Operation& operation = entries_.at(id)->operation;
    const bool forget =
        IsDone(operation.state) && (too_many > 0 || operation.end_time + options_.keep_done < now);
    if (!forget || left == 0) {
      kept.push_back(id);
      continue;
    }
    --left;
    --too_many;
    journal_.Delete(id).IgnoreError();
    entries_.erase(id);
  }
  by_age_ = std::move(kept);
}

}  // namespace secateur
