// How much memory there is.
#pragma once

#include <cstdint>
#include <string>

namespace secateur {

// Bytes of the machine, or of its container where that may have less; 0 if neither tells. `root` is
// the folder in which /proc and /sys are looked for; tests have others.
int64_t MachineMemory(const std::string& root = "");

}  // namespace secateur
