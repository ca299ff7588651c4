// A thread that calls a function again and again, with a pause after each call, until it is
// stopped. Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "server/base/mutex.h"

namespace secateur {

class Ticker {
 public:
  Ticker(std::chrono::nanoseconds pause, std::function<void()> tick)
      : pause_(pause), tick_(std::move(tick)), thread_([this] { Run(); }) {}
  ~Ticker() { Stop(); }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

  // No call is under way or follows when this returns. Not from within a call; by one thread.
  void Stop() {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    changed_.NotifyAll();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Run() {
    while (true) {
      {
        MutexLock lock(mutex_);
        if (!stopping_) changed_.WaitFor(mutex_, pause_);
        if (stopping_) return;
      }
      tick_();
    }
  }

  const std::chrono::nanoseconds pause_;
  const std::function<void()> tick_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace secateur
