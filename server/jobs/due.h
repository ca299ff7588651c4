// Whether what happens every so often is due.
#pragma once

#include "absl/time/time.h"

namespace secateur {

// Also when the clock was set back, which tells nothing about the time since `last`.
inline bool IsDue(absl::Time now, absl::Time last, absl::Duration every) {
  return now < last || now - last >= every;
}

}  // namespace secateur
