#include "server/base/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>

namespace secateur {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

int64_t TotalOf(const std::string& meminfo) {
  std::ifstream file(meminfo);
  std::string word;
  int64_t kib = 0;
  while (file >> word) {
    if (word == "MemTotal:" && file >> kib) return kib << 10;
  }
  return kUnknown;
}

int64_t LimitOf(const std::string& path) {  // "max" where there is none
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes ? bytes : kUnknown;
}

}  // namespace

int64_t MachineMemory(const std::string& root) {
  const int64_t bytes =
      std::min({TotalOf(root + "/proc/meminfo"), LimitOf(root + "/sys/fs/cgroup/memory.max"),
                LimitOf(root + "/sys/fs/cgroup/memory/memory.limit_in_bytes")});
  return bytes == kUnknown ? 0 : bytes;
}

}  // namespace secateur
