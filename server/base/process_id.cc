#include "server/base/process_id.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

namespace secateur {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The boot, and the namespace of process ids: containers of one machine count on their own.
std::string Host() {
  std::string boot = ReadFile("/proc/sys/kernel/random/boot_id");
  while (!boot.empty() && boot.back() == '\n') boot.pop_back();
  char space[64];
  const ssize_t length = readlink("/proc/self/ns/pid", space, sizeof(space));
  if (boot.empty() || length <= 0) return "";
  return boot + " " + std::string(space, static_cast<size_t>(length));
}

struct ProcessState {
  char state = 0;  // 'R', 'S', ... 'Z': ended and not yet waited for
  int64_t start = 0;
};

// From /proc/<pid>/stat; nothing when that cannot be read.
std::optional<ProcessState> StateOf(int64_t pid) {
  const std::string stat = ReadFile("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = stat.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat.substr(name_end + 1));
  ProcessState out;
  std::string skipped;
  fields >> out.state;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> out.start;
  if (!fields) return std::nullopt;
  return out;
}

}  // namespace

ProcessId ProcessId::OfThis() {
  const auto state = StateOf(getpid());
  if (!state) return {};
  return {.host = Host(), .pid = getpid(), .start = state->start};
}

bool IsKnownToBeGone(const ProcessId& process) {
  if (process.host.empty() || process.pid <= 0 || process.host != Host()) return false;
  if (const auto state = StateOf(process.pid)) {
    return state->start != process.start || state->state == 'Z' || state->state == 'X';
  }
  // Files of others' processes may be hidden; that there is none is said to everyone.
  return kill(static_cast<pid_t>(process.pid), 0) != 0 && errno == ESRCH;
}

}  // namespace secateur
