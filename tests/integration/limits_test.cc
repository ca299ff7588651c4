// Clients that take what they can: watchers that do not read, connections that say nothing.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "server/base/strings.h"
#include "tests/integration/server_process.h"
#include "tests/support/small_disk.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using Stub = v1::Secateur::Stub;

constexpr int64_t kMiB = int64_t{1} << 20;
// What a thousand watchers may take. A sanitizer keeps what was freed (256 MiB of it, at first) and
// a shadow of what was not.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kLittleMemory = 768 * kMiB;
#else
constexpr int64_t kLittleMemory = 128 * kMiB;
#endif

bool Answers(ServerProcess& server) {
  v1::ListModelsResponse response;
  return server.Call(&Stub::ListModels, v1::ListModelsRequest(), &response).ok() &&
         response.models_size() == 1;
}

// What its streams do not read stays in the server.
std::unique_ptr<Stub> StubThatTakesNothingInAdvance(const ServerProcess& server) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);  // the least
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return v1::Secateur::NewStub(grpc::CreateCustomChannel(
      StrCat("127.0.0.1:", server.port()), grpc::InsecureChannelCredentials(), arguments));
}

struct Watcher {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::WatchOperationResponse>> reader;
};

TEST(Limits, AThousandWatchersThatDoNotReadTakeLittleMemory) {
  const TempDir dir;
  ServerProcess server(dir);
  server.Upload(JsonLines(3000, "long"));
  const std::string name = server.StartProfile();
  ASSERT_TRUE(server.HasProgress(name));
  const int64_t before = server.ResidentBytes();
  std::vector<std::unique_ptr<Watcher>> watchers;
  const auto stub = StubThatTakesNothingInAdvance(server);
  v1::WatchOperationRequest request;
  request.set_name(name);
  for (int i = 0; i < 1000; ++i) {
    watchers.push_back(std::make_unique<Watcher>());
    watchers.back()->reader = stub->WatchOperation(&watchers.back()->context, request);
  }
  EXPECT_TRUE(Answers(server));
  EXPECT_TRUE(server.Wait(name).has_response());
  EXPECT_LT(server.ResidentBytes() - before, kLittleMemory);
  // Late readers see what was under way when they stopped to read, and the end.
  v1::WatchOperationResponse response, last;
  int states = 0;
  for (; watchers.front()->reader->Read(&response); ++states) last = response;
  EXPECT_TRUE(last.operation().done());
  EXPECT_LE(states, 2);
  for (const auto& watcher : watchers) watcher->context.TryCancel();
  EXPECT_TRUE(Answers(server));
}

TEST(Limits, ConnectionsThatSayNothingKeepNobodyOut) {
  const TempDir dir;
  ServerProcess server(dir);
  std::vector<int> connections;
  for (int i = 0; i < 300; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_GE(fd, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server.port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    // Half of them begin and stop in the middle of the preface.
    if (i % 2 == 0) {
      EXPECT_EQ(send(fd, "PRI * HT", 8, MSG_NOSIGNAL), 8);
    }
    connections.push_back(fd);
  }
  // A call begins, and stops there.
  grpc::ClientContext context;
  v1::UploadCorpusResponse response;
  const auto silent = server.stub().UploadCorpus(&context, &response);
  EXPECT_TRUE(Answers(server));
  server.Signal(SIGTERM);  // nor do they keep the server from ending
  EXPECT_TRUE(Eventually([&] { return server.Log().find("\"stopped\"") != std::string::npos; }));
  context.TryCancel();
  const int status = server.Kill(0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  for (const int fd : connections) close(fd);
}

TEST(Limits, ADiskThatIsNearlyFullTakesNoNewWorkAndLosesNone) {
  const TempDir dir;
  const SmallDisk disk(dir.Join("store"), "32m");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a file system";
  ServerProcess server(dir);
  server.Upload(JsonLines(3, "short"));
  const std::string before = server.StartProfile();
  EXPECT_TRUE(server.Wait(before).has_response());
  const std::string ballast = dir.Write("store/ballast", std::string(31 * kMiB, 'x'));

  lro::Operation operation;
  EXPECT_THAT(server.Call(&Stub::CreateProfile, ProfileAll(), &operation),
              IsError(grpc::RESOURCE_EXHAUSTED, "STORE_FULL"));
  v1::UploadCorpusResponse response;
  EXPECT_THAT(server.Upload(UploadMessages({{"language", "fr"}}, JsonLines(3, "more")), &response),
              IsError(grpc::RESOURCE_EXHAUSTED, "STORE_FULL"));
  EXPECT_TRUE(server.GetOperation(before).has_response());

  std::filesystem::remove(ballast);
  EXPECT_TRUE(server.Wait(server.StartProfile()).has_response());
}

TEST(Limits, MessagesAndHeadersThatAreTooLargeAreRefused) {
  const TempDir dir;
  ServerProcess server(dir);
  v1::GetModelRequest request;
  request.set_name(std::string(5 * kMiB, 'x'));
  v1::Model model;
  EXPECT_EQ(server.Call(&Stub::GetModel, request, &model).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  grpc::ClientContext context;
  context.AddMetadata("large", std::string(40 << 10, 'x'));
  v1::ListModelsResponse models;
  EXPECT_FALSE(server.stub().ListModels(&context, v1::ListModelsRequest(), &models).ok());
  // By way of a new connection: the old one is closed on such clients.
  EXPECT_TRUE(Eventually([&] { return Answers(server); }));
}

}  // namespace
}  // namespace secateur
