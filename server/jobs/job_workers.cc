#include "server/jobs/job_workers.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace secateur {

using At = OperationEntry::Work::At;

JobWorkers::JobWorkers(int workers, Run run, Sink report, const Clock& clock, Metrics& metrics)
    : run_(std::move(run)), report_(std::move(report)), clock_(clock), metrics_(metrics) {
  for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { Work(); });
}

JobWorkers::~JobWorkers() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void JobWorkers::GiveBack(OperationEntry& entry) {
  MutexLock lock(mutex_);
  entry.work.place.Release();
}

void JobWorkers::Add(const OperationEntryPtr& entry, Admission::Reservation place) {
  auto context =
      std::make_unique<RunContext>([this, weak = std::weak_ptr(entry)](const Progress& progress) {
        if (const auto live = weak.lock()) report_(*live, progress);
      });
  MutexLock lock(mutex_);
  entry->work = {.at = At::kQueue,
                 .context = std::move(context),
                 .stop = StopReason::kNone,
                 .queue_time = clock_.Now(),
                 .place = std::move(place)};
  queue_.push_back(entry);
  metrics_.job_queue_length.Set(static_cast<double>(queue_.size()));
  changed_.NotifyAll();
}

bool JobWorkers::Withdraw(const OperationEntryPtr& entry) {
  MutexLock lock(mutex_);
  return Remove(entry);
}

std::optional<absl::Duration> JobWorkers::WithdrawOverdue(const OperationEntryPtr& entry,
                                                          absl::Duration limit) {
  MutexLock lock(mutex_);
  const absl::Duration waited = Waited(*entry);
  if (waited <= limit || !Remove(entry)) return std::nullopt;
  return waited;
}

absl::Duration JobWorkers::Waited(const OperationEntry& entry) const {
  return std::max(clock_.Now() - entry.work.queue_time, absl::ZeroDuration());
}

bool JobWorkers::Remove(const OperationEntryPtr& entry) {
  if (std::erase(queue_, entry) == 0) return false;
  entry->work.at = At::kNowhere;
  entry->work.place.Release();
  metrics_.job_queue_length.Set(static_cast<double>(queue_.size()));
  changed_.NotifyAll();
  return true;
}

void JobWorkers::Stop(OperationEntry& entry, StopReason reason) {
  MutexLock lock(mutex_);
  OperationEntry::Work& work = entry.work;
  if (work.at != At::kWorker) return;
  const bool cancel = reason == StopReason::kCancel && work.stop == StopReason::kSuspend;
  if (work.stop == StopReason::kNone || cancel) work.stop = reason;
  work.context->Cancel();
}

StopReason JobWorkers::ReasonToStop(const OperationEntry& entry) const {
  MutexLock lock(mutex_);
  return entry.work.stop;
}

bool JobWorkers::Has(const OperationEntry& entry) const {
  MutexLock lock(mutex_);
  return entry.work.at != At::kNowhere;
}

std::vector<OperationEntryPtr> JobWorkers::Overdue(absl::Duration limit) const {
  MutexLock lock(mutex_);
  std::vector<OperationEntryPtr> overdue;
  for (const OperationEntryPtr& entry : queue_) {
    if (Waited(*entry) > limit) overdue.push_back(entry);
  }
  return overdue;
}

bool JobWorkers::Idle() const {
  MutexLock lock(mutex_);
  return queue_.empty() && working_ == 0;
}

void JobWorkers::WaitUntilIdle(absl::Time deadline) {
  MutexLock lock(mutex_);
  absl::Time last = clock_.Now();
  absl::Duration left = deadline - last;
  while ((!queue_.empty() || working_ > 0) && left > absl::ZeroDuration()) {
    changed_.WaitFor(mutex_, std::chrono::milliseconds(20));  // the clock may be a test's
    const absl::Time now = clock_.Now();
    left -= std::max(now - last, absl::ZeroDuration());  // it may be set back
    last = now;
  }
}

void JobWorkers::Work() {
  while (true) {
    OperationEntryPtr entry;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) changed_.Wait(mutex_);
      if (queue_.empty()) return;
      entry = std::move(queue_.front());
      queue_.pop_front();
      entry->work.at = At::kWorker;
      ++working_;
      metrics_.job_queue_length.Set(static_cast<double>(queue_.size()));
      metrics_.job_queue_wait.Observe(absl::ToDoubleSeconds(Waited(*entry)));
    }
    run_(entry, *entry->work.context);
    MutexLock lock(mutex_);
    entry->work.at = At::kNowhere;
    entry->work.place.Release();
    --working_;
    changed_.NotifyAll();
  }
}

}  // namespace secateur
