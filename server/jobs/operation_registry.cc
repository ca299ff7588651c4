#include "server/jobs/operation_registry.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "server/jobs/due.h"
#include "server/jobs/operation_errors.h"

namespace secateur {
namespace {

constexpr absl::Duration kNotifyEvery = absl::Milliseconds(200);
// Operations that one call removes from the store.
constexpr size_t kMostForgotten = 16;

}  // namespace

OperationEntryPtr OperationRegistry::Find(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second;
}

OperationEntryPtr OperationRegistry::Add(OperationEntryPtr entry, Operation operation) {
  MutexLock lock(mutex_);
  const auto [at, added] = entries_.emplace(entry->id, entry);
  if (!added) return at->second;
  entry->shown.operation = std::move(operation);
  by_age_.push_back(entry);
  return entry;
}

void OperationRegistry::Remove(OperationEntry& entry) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(entry.id);
  if (found == entries_.end() || found->second.get() != &entry) return;
  entry.shown.operation.suspended = true;
  Notify(entry);
  DropObservers(entry);
  std::erase(by_age_, found->second);
  entries_.erase(found);
}

void OperationRegistry::Show(OperationEntry& entry, Operation operation) {
  MutexLock lock(mutex_);
  Operation& shown = entry.shown.operation;
  operation.suspended = shown.suspended;
  const bool same_work = operation.owner == shown.owner && operation.epoch == shown.epoch;
  if (same_work) {
    operation.progress = shown.progress;
  } else {
    EndPhase(entry, clock_.Now());
  }
  shown = std::move(operation);
  Notify(entry);
  if (IsDone(shown.state)) DropObservers(entry);
}

void OperationRegistry::ShowLeft(OperationEntry& entry) {
  MutexLock lock(mutex_);
  if (entry.shown.operation.state != OperationState::kRunning) return;
  entry.shown.operation.state = OperationState::kQueued;
  Notify(entry);
}

void OperationRegistry::Report(OperationEntry& entry, const Progress& progress) {
  MutexLock lock(mutex_);
  OperationProgress& seen = entry.shown.operation.progress;
  const absl::Time now = clock_.Now();
  const bool new_phase =
      seen.phase != progress.phase || entry.shown.phase_start == absl::InfinitePast();
  if (new_phase) {
    EndPhase(entry, now);
    entry.shown.phase_start = now;
  }
  const double seconds = absl::ToDoubleSeconds(now - entry.shown.phase_start);
  seen.phase = progress.phase;
  seen.unit = progress.unit;
  seen.done = progress.done;
  seen.total = progress.total;
  seen.rate = seconds > 0 ? static_cast<double>(progress.done) / seconds : 0;
  seen.eta = seen.rate > 0 && seen.total > 0
                 ? absl::Seconds(static_cast<double>(seen.total - seen.done) / seen.rate)
                 : absl::InfiniteDuration();
  if (seen.unit == "tokens" && seen.rate > 0) seen.tokens_per_second = seen.rate;
  if (new_phase || IsDue(now, entry.shown.last_notified, kNotifyEvery)) Notify(entry);
}

void OperationRegistry::EndPhase(OperationEntry& entry) {
  MutexLock lock(mutex_);
  EndPhase(entry, clock_.Now());
}

void OperationRegistry::EndPhase(OperationEntry& entry, absl::Time now) {
  const absl::Time start = std::exchange(entry.shown.phase_start, absl::InfinitePast());
  if (start == absl::InfinitePast()) return;
  const Operation& shown = entry.shown.operation;
  // The clock may have been set back.
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(now - start));
  metrics_.OperationPhaseEnded(shown.request.method, shown.progress.phase, seconds);
}

void OperationRegistry::Suspend(OperationEntry& entry) {
  MutexLock lock(mutex_);
  if (IsDone(entry.shown.operation.state)) return;
  entry.shown.operation.suspended = true;
  Notify(entry);
  DropObservers(entry);
}

void OperationRegistry::Notify(OperationEntry& entry) {
  entry.shown.last_notified = clock_.Now();
  for (auto& [ticket, observer] : entry.shown.observers) observer(entry.shown.operation);
}

void OperationRegistry::DropObservers(OperationEntry& entry) {
  for (auto& [ticket, observer] : entry.shown.observers) tickets_.erase(ticket);
  entry.shown.observers.clear();
}

Operation OperationRegistry::Get(const OperationEntry& entry) const {
  MutexLock lock(mutex_);
  return entry.shown.operation;
}

std::vector<Operation> OperationRegistry::List() const {
  MutexLock lock(mutex_);
  std::vector<Operation> operations;
  operations.reserve(by_age_.size());
  for (auto entry = by_age_.rbegin(); entry != by_age_.rend(); ++entry) {
    operations.push_back((*entry)->shown.operation);
  }
  return operations;
}

std::vector<OperationEntryPtr> OperationRegistry::All() const {
  MutexLock lock(mutex_);
  return {by_age_.begin(), by_age_.end()};
}

std::vector<OperationEntryPtr> OperationRegistry::Unsettled() const {
  MutexLock lock(mutex_);
  std::vector<OperationEntryPtr> entries;
  for (const OperationEntryPtr& entry : by_age_) {
    if (entry->behind || !IsDone(entry->shown.operation.state)) entries.push_back(entry);
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a->shown.operation.create_time < b->shown.operation.create_time;
  });
  return entries;
}

std::vector<OperationEntryPtr> OperationRegistry::ToForget(absl::Time before, int64_t most) const {
  MutexLock lock(mutex_);
  int64_t too_many = std::ssize(by_age_) - most;
  std::vector<OperationEntryPtr> forgotten;
  for (const OperationEntryPtr& entry : by_age_) {
    const Operation& operation = entry->shown.operation;
    if (!IsDone(operation.state) || (too_many <= 0 && operation.end_time >= before)) continue;
    forgotten.push_back(entry);
    --too_many;
    if (forgotten.size() == kMostForgotten) break;
  }
  return forgotten;
}

absl::StatusOr<int64_t> OperationRegistry::Observe(const std::string& id,
                                                   OperationObserver observer) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return OperationNotFound(id);
  OperationEntry& entry = *found->second;
  const int64_t ticket = next_ticket_++;
  observer(entry.shown.operation);
  if (IsDone(entry.shown.operation.state)) return ticket;
  entry.shown.observers[ticket] = std::move(observer);
  tickets_[ticket] = found->second;
  return ticket;
}

void OperationRegistry::Unobserve(int64_t ticket) {
  MutexLock lock(mutex_);
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end()) return;
  found->second->shown.observers.erase(ticket);
  tickets_.erase(found);
}

}  // namespace secateur
