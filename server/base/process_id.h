// Which process this is among all that ran on this machine, so that another one on the same machine
// can tell for sure that it is gone.
#pragma once

#include <cstdint>
#include <string>

namespace secateur {

struct ProcessId {
  // The machine since it was started, and the namespace in which `pid` counts; empty when the
  // system does not tell.
  std::string host;
  int64_t pid = 0;
  int64_t start = 0;  // of the process, in clock ticks of the machine

  static ProcessId OfThis();
  friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

// True only when it is certain: the process ran on this machine and does not run any more. Another
// machine's, and one that may not be looked at, is not known to be gone.
bool IsKnownToBeGone(const ProcessId& process);

}  // namespace secateur
