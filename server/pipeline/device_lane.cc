#include "server/pipeline/device_lane.h"

#include <chrono>

#include "absl/cleanup/cleanup.h"
#include "server/base/status_macros.h"

namespace secateur {

absl::Status DeviceLane::Run(RunContext& context, const std::function<absl::Status()>& work) {
  {
    MutexLock lock(mutex_);
    while (busy_) {
      RETURN_IF_ERROR(context.CheckCancelled());
      changed_.WaitFor(mutex_, std::chrono::milliseconds(20));
    }
    busy_ = true;
  }
  const absl::Cleanup release = [this] {
    {
      MutexLock lock(mutex_);
      busy_ = false;
    }
    changed_.NotifyOne();
  };
  RETURN_IF_ERROR(context.CheckCancelled());
  return work();
}

}  // namespace secateur
