// A server process that is killed in the middle of its work, and the next one on the same store.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/integration/live_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

extern char** environ;

namespace secateur {
namespace {

using Stub = v1::Secateur::Stub;

// secateurd as a process of its own, on a tiny model.
class ServerProcess {
 public:
  explicit ServerProcess(const TempDir& dir) : dir_(dir), log_(dir.Join("log")) {
    const std::string model = dir.Join("model");
    if (!std::filesystem::exists(model)) {
      std::filesystem::create_directory(model);
      EXPECT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), model));
    }
    Spawn({SECATEURD, "--model", "tiny=" + model, "--store", "file:" + dir.Join("store"),
           "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--threads", "1", "--workers",
           "1", "--drain-seconds", "0"});
    EXPECT_TRUE(Eventually([this] { return Port() != 0; })) << Log();
    const auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(Port()),
                                             grpc::InsecureChannelCredentials());
    stub_ = v1::Secateur::NewStub(channel);
    operations_ = lro::Operations::NewStub(channel);
    // Experts need the digest of the model, which is worked out behind the start.
    v1::GetModelRequest request;
    request.set_name("models/tiny");
    EXPECT_TRUE(Eventually([&] {
      v1::Model now;
      return Call(&Stub::GetModel, request, &now).ok() && !now.digest().empty();
    }));
  }
  ~ServerProcess() {
    if (pid_ != 0) Kill(SIGKILL);
  }

  // Returns what waitpid() says.
  int Kill(int signal) {
    kill(pid_, signal);
    int status = 0;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return status;
  }
  template <class Request, class Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    return ((*stub_).*method)(&context, request, response);
  }
  lro::Operation Get(const std::string& name) {
    grpc::ClientContext context;
    lro::GetOperationRequest request;
    request.set_name(name);
    lro::Operation operation;
    EXPECT_RPC_OK(operations_->GetOperation(&context, request, &operation));
    return operation;
  }
  lro::Operation Wait(const std::string& name) {
    lro::Operation operation;
    EXPECT_TRUE(Eventually([&] { return (operation = Get(name)).done(); })) << Log();
    return operation;
  }
  void Upload(const std::string& text) {
    grpc::ClientContext context;
    v1::UploadCorpusResponse response;
    const auto writer = stub_->UploadCorpus(&context, &response);
    for (const v1::UploadCorpusRequest& message : UploadMessages({{"language", "en"}}, text)) {
      EXPECT_TRUE(writer->Write(message));
    }
    writer->WritesDone();
    EXPECT_RPC_OK(writer->Finish());
  }

 private:
  void Spawn(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log_.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ASSERT_EQ(posix_spawn(&pid_, SECATEURD, &actions, nullptr, arguments.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  std::string Log() const {
    std::stringstream text;
    text << std::ifstream(log_).rdbuf();
    return text.str();
  }
  // From the line that says that it serves; 0 before that.
  int Port() const {
    const std::string log = Log();
    const size_t serving = log.find("\"message\":\"serving\"");
    if (serving == std::string::npos) return 0;
    const size_t port = log.find("\"port\":", serving);
    return port == std::string::npos ? 0 : std::atoi(log.c_str() + port + 7);
  }

  const TempDir& dir_;
  const std::string log_;
  pid_t pid_ = 0;
  std::unique_ptr<Stub> stub_;
  std::unique_ptr<lro::Operations::Stub> operations_;
};

v1::CreateProfileRequest ProfileAll(const std::string& request_id) {
  v1::CreateProfileRequest request;
  request.set_parent("models/tiny");
  request.set_filter("*");
  request.set_request_id(request_id);
  return request;
}

TEST(KilledServer, IsFollowedByOneThatFinishesWhatWasAccepted) {
  const TempDir dir;
  std::string running, queued, done;
  const v1::CreateProfileRequest request = ProfileAll("2b1f9f0e-6f3e-4f0d-9d3c-1f2e3d4c5b6a");
  {
    ServerProcess server(dir);
    server.Upload(JsonLines(2, "short"));
    lro::Operation operation;
    ASSERT_RPC_OK(server.Call(&Stub::CreateProfile, ProfileAll(""), &operation));
    done = operation.name();
    ASSERT_TRUE(server.Wait(done).has_response());
    server.Upload(JsonLines(3000, "long"));
    ASSERT_RPC_OK(server.Call(&Stub::CreateProfile, request, &operation));
    running = operation.name();
    ASSERT_RPC_OK(server.Call(&Stub::CreateProfile, ProfileAll(""), &operation));
    queued = operation.name();
    ASSERT_TRUE(Eventually([&] { return MetadataOf(server.Get(running)).progress().done() > 0; }));
    const int status = server.Kill(SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
  ServerProcess server(dir);
  // The same request is the same operation, whichever process is asked.
  lro::Operation again;
  ASSERT_RPC_OK(server.Call(&Stub::CreateProfile, request, &again));
  EXPECT_EQ(again.name(), running);
  EXPECT_TRUE(server.Get(done).has_response());
  EXPECT_EQ(ResponseOf<v1::CreateProfileResponse>(server.Wait(running)).profiles_size(), 2);
  EXPECT_EQ(ResponseOf<v1::CreateProfileResponse>(server.Wait(queued)).cached_count(), 2);
}

TEST(DrainedServer, LeavesWhatItCannotFinishToTheNext) {
  const TempDir dir;
  std::string running;
  {
    ServerProcess server(dir);
    server.Upload(JsonLines(3000, "long"));
    lro::Operation operation;
    ASSERT_RPC_OK(server.Call(&Stub::CreateProfile, ProfileAll(""), &operation));
    running = operation.name();
    ASSERT_TRUE(Eventually([&] { return MetadataOf(server.Get(running)).progress().done() > 0; }));
    const int status = server.Kill(SIGTERM);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
  ServerProcess server(dir);
  EXPECT_EQ(ResponseOf<v1::CreateProfileResponse>(server.Wait(running)).profiles_size(), 1);
}

}  // namespace
}  // namespace secateur
