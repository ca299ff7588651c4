#include "client/cli/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace secateur::cli {
namespace {

// A handler may do next to nothing, but it may write to a pipe.
std::atomic<int> write_end{-1};

void OnInterrupt(int) {
  const int saved = errno;
  const char byte = 1;
  [[maybe_unused]] const ssize_t ignored = write(write_end.load(), &byte, 1);
  errno = saved;
}

}  // namespace

InterruptScope::InterruptScope() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return;  // then Ctrl-C ends the process, as ever
  read_end_ = ends[0];
  write_end = ends[1];
  listener_ = std::thread([this] {
    char byte = 0;
    ssize_t count = 0;
    do {
      count = read(read_end_, &byte, 1);
    } while (count < 0 && errno == EINTR);
    if (count == 1) source_.request_stop();
  });
  struct sigaction action{};
  action.sa_handler = OnInterrupt;
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_);
}

InterruptScope::~InterruptScope() {
  if (read_end_ < 0) return;
  sigaction(SIGINT, &before_, nullptr);
  close(write_end.exchange(-1));  // the listener reads the end of the pipe
  listener_.join();
  close(read_end_);
}

}  // namespace secateur::cli
