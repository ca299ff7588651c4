// What a long call gets from its caller: a place to report progress and a way to learn that it
// should stop. Lower layers depend on this only, never on operations or RPCs.
//
// Thread-safe: any thread may cancel while another works. Work checks `CheckCancelled()` at least
// once a batch, a tensor or a part.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace secateur {

struct Progress {
  std::string phase;  // lower_snake: "profile", "slice", "verify", "publish" ...
  int64_t done = 0;   // in `unit`s
  int64_t total = 0;  // 0 = not known
  std::string unit;   // "tokens", "bytes", "tensors", "layers"
};

class RunContext {
 public:
  using ProgressSink = std::function<void(const Progress&)>;

  RunContext() = default;
  // `sink` is called on the working thread, one call at a time.
  explicit RunContext(ProgressSink sink) : sink_(std::move(sink)) {}
  RunContext(const RunContext&) = delete;
  RunContext& operator=(const RunContext&) = delete;

  void Report(const Progress& progress) {
    if (sink_) sink_(progress);
  }
  void Cancel() { cancelled_.store(true, std::memory_order_release); }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }
  // CANCELLED after Cancel(), else OK.
  absl::Status CheckCancelled() const {
    return cancelled() ? absl::CancelledError("the operation was cancelled") : absl::OkStatus();
  }

 private:
  ProgressSink sink_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace secateur
