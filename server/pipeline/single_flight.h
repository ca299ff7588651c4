// Identical work in flight is done once: who holds a key works, who waits for it finds the result
// afterwards where the holder left it, and shows until then what the holder reports. Thread-safe;
// keys cost nothing when nobody holds them.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/base/run_context.h"

namespace secateur {

class SingleFlight {
 public:
  // The key is free again when the hold is destroyed. Must not outlive the SingleFlight.
  class Hold {
   public:
    Hold(SingleFlight* owner, std::string key) : owner_(owner), key_(std::move(key)) {}
    Hold(Hold&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), key_(std::move(other.key_)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold();

    // Becomes the progress of all who wait for the key.
    void Report(const Progress& progress) const;

   private:
    SingleFlight* owner_;
    std::string key_;
  };

  // Waits until nobody else holds `key`, and reports to `context` what the holder does; CANCELLED
  // if that is asked for meanwhile.
  absl::StatusOr<Hold> Acquire(const std::string& key, RunContext& context);

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Progress> held_ ABSL_GUARDED_BY(mutex_);  // and what was reported last
};

}  // namespace secateur
