// Turns Ctrl-C into a stop token for as long as the object lives; afterwards SIGINT does again what
// it did before. A second Ctrl-C ends the process. One object at a time in a process.
#pragma once

#include <csignal>
#include <stop_token>
#include <thread>

namespace secateur::cli {

class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  int read_end_ = -1;
  struct sigaction before_{};
  std::thread listener_;
};

}  // namespace secateur::cli
