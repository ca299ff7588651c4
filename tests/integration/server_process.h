// secateurd as a process of its own, on a tiny model: it can be killed, stopped, and share a store
// with others.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/integration/live_server.h"

namespace secateur {

class ServerProcess {
 public:
  using Stub = v1::Secateur::Stub;

  // Starts on the store of `dir` and waits until experts can be made. `flags` are added, or replace
  // those that it has else; `name` tells processes of one folder apart.
  explicit ServerProcess(const TempDir& dir, std::vector<std::string> flags = {},
                         const std::string& name = "server");
  ~ServerProcess();  // kills it

  void Signal(int signal) const;
  // Closes the client's connection, for which a drain waits else.
  void HangUp();
  // Returns what waitpid() says.
  int Kill(int signal);

  Stub& stub() { return *stub_; }
  lro::Operations::Stub& operations() { return *operations_; }
  template <class Request, class Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    return ((*stub_).*method)(&context, request, response);
  }
  lro::Operation Get(const std::string& name);
  // Polls until it is done.
  lro::Operation Wait(const std::string& name);
  bool HasProgress(const std::string& name);
  grpc::Status Cancel(const std::string& name);
  void Upload(const std::string& text);
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
  std::unique_ptr<Stub> stub_;
  std::unique_ptr<lro::Operations::Stub> operations_;
};

// Of every calibration corpus.
v1::CreateProfileRequest ProfileAll(const std::string& request_id = "");
// Of English text, by relevance alone.
v1::CreateExpertRequest EnglishRequest(double neuron_ratio = 0.25);

}  // namespace secateur
