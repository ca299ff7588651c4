// One forward pass at a time on a device. Profiles and evaluations hold the lane for a batch, not
// for a job, so that jobs take turns; measuring, solving and verifying hold it from end to end,
// since what they keep between layers is made for the device. Thread-safe.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "server/base/mutex.h"
#include "server/base/run_context.h"

namespace secateur {

class DeviceLane {
 public:
  // Runs `work` while no other work is on the lane. CANCELLED if that is asked for before its turn.
  absl::Status Run(RunContext& context, const std::function<absl::Status()>& work);

 private:
  Mutex mutex_;
  CondVar changed_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace secateur
