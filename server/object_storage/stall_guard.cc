#include "server/object_storage/stall_guard.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <limits>
#include <optional>
#include <thread>
#include <utility>

#include "server/base/mutex.h"
#include "server/base/strings.h"

namespace secateur {

class StallGuard::Task {
 public:
  Call call;
  absl::Duration begun;
  bool abandoned = false;              // guarded by State::mutex
  std::optional<absl::Status> result;  // guarded by State::mutex
};

struct StallGuard::State {
  explicit State(Options o) : options(std::move(o)) {}

  // Has a thread run the task; `state` is this.
  void Take(const std::shared_ptr<Task>& task, const std::shared_ptr<State>& state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Of a thread: one task after the other, until there is none or the guard is gone.
  static void Work(const std::shared_ptr<State>& state);

  const Options options;
  mutable Mutex mutex;
  CondVar changed;
  std::deque<std::shared_ptr<Task>> waiting ABSL_GUARDED_BY(mutex);
  int idle ABSL_GUARDED_BY(mutex) = 0;
  int threads ABSL_GUARDED_BY(mutex) = 0;  // without the abandoned ones
  int abandoned ABSL_GUARDED_BY(mutex) = 0;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
};

namespace {

constexpr std::chrono::milliseconds kLookEvery(50);

// On a clock that never jumps, as a wall clock may.
absl::Duration Now() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// When HurryAll was called, and what it allows; in nanoseconds.
std::atomic<int64_t> hurry_since{std::numeric_limits<int64_t>::max()};
std::atomic<int64_t> hurry_limit{0};

absl::Duration Deadline(absl::Duration begun, absl::Duration limit) {
  const absl::Duration deadline = begun + limit;
  if (hurry_since == std::numeric_limits<int64_t>::max()) return deadline;
  const absl::Duration hurried = std::max(begun, absl::Nanoseconds(hurry_since.load())) +
                                 absl::Nanoseconds(hurry_limit.load());
  return std::min(deadline, hurried);
}

absl::Status RunGuarded(const StallGuard::Call& call) {
  try {
    return call();
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace

void StallGuard::State::Work(const std::shared_ptr<State>& state) {
  while (true) {
    std::shared_ptr<Task> task;
    {
      MutexLock lock(state->mutex);
      if (state->idle >= kIdleThreads && state->waiting.empty()) {
        --state->threads;
        state->changed.NotifyAll();
        return;
      }
      ++state->idle;
      while (state->waiting.empty() && !state->stopping) state->changed.Wait(state->mutex);
      --state->idle;
      if (state->waiting.empty()) {
        --state->threads;
        state->changed.NotifyAll();
        return;
      }
      task = std::move(state->waiting.front());
      state->waiting.pop_front();
    }
    absl::Status result = RunGuarded(task->call);
    task->call = nullptr;  // what it owned goes here, where its end may take time, too
    bool came_back = false;
    {
      MutexLock lock(state->mutex);
      task->result = std::move(result);
      if (task->abandoned) {
        came_back = true;
        --state->abandoned;
        ++state->threads;
      }
      state->changed.NotifyAll();
    }
    if (came_back) state->options.on_abandoned(-1);
  }
}

void StallGuard::State::Take(const std::shared_ptr<Task>& task,
                             const std::shared_ptr<State>& state) {
  waiting.push_back(task);
  if (idle < std::ssize(waiting)) {
    ++threads;
    std::thread([state] { Work(state); }).detach();
  } else {
    changed.NotifyAll();
  }
}

StallGuard::StallGuard(Options options) : state_(std::make_shared<State>(std::move(options))) {}

StallGuard::~StallGuard() {
  MutexLock lock(state_->mutex);
  state_->stopping = true;
  state_->changed.NotifyAll();
  while (state_->threads > 0) state_->changed.Wait(state_->mutex);
}

std::shared_ptr<StallGuard::Task> StallGuard::Start(Call call) {
  auto task = std::make_shared<Task>();
  task->call = std::move(call);
  task->begun = Now();
  {
    MutexLock lock(state_->mutex);
    if (state_->abandoned < state_->options.max_abandoned) {
      state_->Take(task, state_);
      return task;
    }
    task->result = absl::UnavailableError(
        StrCat(state_->abandoned, " calls to the store have not come back; no more are made"));
  }
  // What it owned goes in a thread of its own: a stream's end calls the store, and may hang.
  state_->options.on_abandoned(1);
  std::thread([state = state_, refused = std::exchange(task->call, nullptr)]() mutable {
    refused = nullptr;
    state->options.on_abandoned(-1);
  }).detach();
  return task;
}

absl::Status StallGuard::Finish(const std::shared_ptr<Task>& task) {
  {
    MutexLock lock(state_->mutex);
    while (!task->result) {
      const absl::Duration left = Deadline(task->begun, state_->options.limit) - Now();
      if (left <= absl::ZeroDuration()) break;
      state_->changed.WaitFor(
          state_->mutex,
          std::min(absl::ToChronoMilliseconds(left) + std::chrono::milliseconds(1), kLookEvery));
    }
    if (task->result) return *std::move(task->result);
    task->abandoned = true;
    ++state_->abandoned;
    --state_->threads;
    state_->changed.NotifyAll();
  }
  state_->options.on_abandoned(1);
  return absl::UnavailableError(
      StrCat("no answer within ",
             absl::FormatDuration(Deadline(task->begun, state_->options.limit) - task->begun)));
}

void StallGuard::HurryAll(absl::Duration limit) {
  hurry_limit = absl::ToInt64Nanoseconds(limit);
  hurry_since = absl::ToInt64Nanoseconds(Now());
}

int StallGuard::abandoned() const {
  MutexLock lock(state_->mutex);
  return state_->abandoned;
}

}  // namespace secateur
