// A program of its own that a test starts and ends. One thread at a time.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace secateur {

class ChildProcess {
 public:
  // Starts words[0] with what is in the environment and `variables` over it; what it says goes to
  // the file `log`. Throws std::system_error when it cannot be started.
  ChildProcess(std::vector<std::string> words, const std::map<std::string, std::string>& variables,
               const std::string& log);
  // Kills it.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void Signal(int signal) const;
  // Waits for the end and returns what waitpid() says. Once.
  int Wait();
  bool running();

 private:
  pid_t pid_ = 0;
};

// A port of the loopback that nobody listens on at this moment.
int FreePort();
// True once somebody accepts connections there; false after 30 seconds.
bool WaitForPort(int port);

}  // namespace secateur
