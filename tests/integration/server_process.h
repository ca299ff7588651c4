// secateurd as a process of its own, on a tiny model: it can be killed, stopped, and share a store
// with others.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/integration/plain_client.h"
#include "tests/support/temp_dir.h"

namespace secateur {

class ServerProcess : public PlainClient {
 public:
  // Starts on the store of `dir` and waits until experts can be made. `flags` are added, or replace
  // those that it has else; `name` tells processes of one folder apart.
  explicit ServerProcess(const TempDir& dir, std::vector<std::string> flags = {},
                         const std::string& name = "server");
  ~ServerProcess();  // kills it

  void Signal(int signal) const;
  // Returns what waitpid() says.
  int Kill(int signal);

  using PlainClient::Upload;
  using PlainClient::Wait;
  // English text that must be taken.
  void Upload(const std::string& text) { Upload({{"language", "en"}}, text); }
  // Polls until it is done.
  lro::Operation Wait(const std::string& name);
  // Profiles every calibration corpus; the operation's name.
  std::string StartProfile(const std::string& request_id = "");
  std::string Log() const;  // what it has said so far
  int port() const { return Port(); }
  int64_t ResidentBytes() const;

 private:
  void Spawn(std::vector<std::string> words);
  int Port() const;  // from the line that says that it serves; 0 before that

  const std::string log_;
  pid_t pid_ = 0;
};

}  // namespace secateur
