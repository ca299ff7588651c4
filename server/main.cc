// Flags to options to server; signals to drain.
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <thread>

#include "server/base/log.h"
#include "server/object_storage/arrow_store.h"
#include "server/options.h"
#include "server/server.h"

namespace {

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

int Wait() {
  const sigset_t signals = StopSignals();
  int received = 0;
  sigwait(&signals, &received);
  return received;
}

}  // namespace

int main(int argc, char** argv) {
  const secateur::CommandLine line = secateur::ParseCommandLine(argc, argv);
  if (line.exit) return line.exit_code;
  secateur::SetLogLevel(line.options.log_level);
  // Before any thread is made, so that all of them leave these signals to the main thread.
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  auto server = secateur::Server::Start(line.options);
  if (!server.ok()) {
    std::cerr << "secateurd: " << server.status().message() << "\n";
    return 1;
  }
  // A model that cannot be loaded after all ends the process, as a signal does.
  bool failed = false;
  std::thread loading([&server, &failed] {
    const absl::Status ready = (*server)->WaitUntilReady();
    if (ready.ok() || absl::IsCancelled(ready)) return;
    std::cerr << "secateurd: " << ready.message() << "\n";
    failed = true;
    kill(getpid(), SIGTERM);
  });

  Wait();
  std::thread([] {  // a second signal does not wait for the drain
    Wait();
    secateur::FlushLog();
    _exit(1);
  })
      .detach();
  (*server)->DrainAndStop();
  loading.join();
  server->reset();
  const bool finalized = secateur::FinalizeObjectStorage();
  secateur::FlushLog();
  // A thread that hangs in a client library would keep the process from ending.
  if (!finalized) _exit(failed ? 1 : 0);
  return failed ? 1 : 0;
}
