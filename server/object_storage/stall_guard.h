// Runs calls that may block for ever, as those of a client library do when a store stops answering
// in the middle of a connection: such a call cannot be cancelled, so the guard stops waiting for it
// and abandons its thread. While `max_abandoned` threads hang, nothing new is started: the store
// counts as down until one comes back.
//
// Threads: one for each call in flight, at most kIdleThreads more, the abandoned ones, and one for
// the end of what each call owned that was not started.
// Thread-safe. The destructor waits for threads that are not abandoned; those that are own all they
// touch and may outlive the guard.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace secateur {

class StallGuard {
 public:
  static constexpr int kIdleThreads = 4;

  struct Options {
    absl::Duration limit = absl::Seconds(60);  // for each call, the library's own retries included
    int max_abandoned = 4;
    // Hears of one thread more that may hang (1) and of one that came back (-1): abandoned calls,
    // and the ends of what calls owned that were not started. Must be quick and thread-safe, and
    // may be called after the guard is gone.
    std::function<void(int change)> on_abandoned = [](int) {};
  };
  // What runs. It owns all it touches: shared pointers and values, no references.
  using Call = std::function<absl::Status()>;
  class Task;

  explicit StallGuard(Options options);
  ~StallGuard();

  // Begins a call; its time runs from now. Never blocks.
  std::shared_ptr<Task> Start(Call call);
  // Waits for its end and returns what it said: UNAVAILABLE when it ran out of its time, or was not
  // started because too many hang.
  absl::Status Finish(const std::shared_ptr<Task>& task);
  absl::Status Run(Call call) { return Finish(Start(std::move(call))); }

  template <class T>
  absl::StatusOr<T> Get(std::function<absl::StatusOr<T>()> call) {
    const auto value = std::make_shared<absl::StatusOr<T>>(absl::UnknownError("not called"));
    absl::Status ran = Run([call = std::move(call), value] {
      *value = call();
      return absl::OkStatus();
    });
    if (!ran.ok()) return ran;
    return *std::move(value);
  }

  int abandoned() const;

  // From now on all guards of the process wait for `limit` at most, also for calls that have begun:
  // a process that is to end has no time for a store that hangs.
  static void HurryAll(absl::Duration limit);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace secateur
