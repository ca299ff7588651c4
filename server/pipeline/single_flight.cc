#include "server/pipeline/single_flight.h"

#include <chrono>
#include <utility>

#include "server/base/status_macros.h"

namespace secateur {

SingleFlight::Hold::~Hold() {
  if (owner_ == nullptr) return;
  {
    MutexLock lock(owner_->mutex_);
    owner_->held_.erase(key_);
  }
  owner_->changed_.NotifyAll();
}

void SingleFlight::Hold::Report(const Progress& progress) const {
  MutexLock lock(owner_->mutex_);
  owner_->held_[key_] = progress;
  owner_->changed_.NotifyAll();
}

absl::StatusOr<SingleFlight::Hold> SingleFlight::Acquire(const std::string& key,
                                                         RunContext& context) {
  Progress seen;
  while (true) {
    RETURN_IF_ERROR(context.CheckCancelled());
    {
      MutexLock lock(mutex_);
      if (held_.contains(key)) changed_.WaitFor(mutex_, std::chrono::milliseconds(20));
      const auto [held, mine] = held_.try_emplace(key);
      if (mine) return Hold(this, key);
      if (held->second.phase == seen.phase && held->second.done == seen.done) continue;
      seen = held->second;
    }
    context.Report(seen);
  }
}

}  // namespace secateur
