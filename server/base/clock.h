// Time as the service sees it, so that tests can stop it. Thread-safe.
#pragma once

#include "absl/time/time.h"

namespace secateur {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;

  // The machine's clock; lives for ever.
  static const Clock& System();
};

}  // namespace secateur
