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

absl::StatusOr<SingleFlight::Hold> SingleFlight::Acquire(const std::string& key,
                                                         RunContext& context) {
  MutexLock lock(mutex_);
  while (held_.contains(key)) {
    RETURN_IF_ERROR(context.CheckCancelled());
    changed_.WaitFor(mutex_, std::chrono::milliseconds(20));
  }
  held_.insert(key);
  return Hold(this, key);
}

}  // namespace secateur
