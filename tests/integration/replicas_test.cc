// Several server processes on one store.
#include <sys/wait.h>

#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/server_process.h"

namespace secateur {
namespace {

using testing::AnyOf;
using Metadata = v1::OperationMetadata;
using Stub = v1::Secateur::Stub;

constexpr int kLong = 3000;  // documents that take much longer than a call
// Nobody waits for that where a process has ended or was shut down.
const std::vector<std::string> kLongLease = {"--lease-seconds", "3600"};

int64_t Profiles(const lro::Operation& operation) {
  return ResponseOf<v1::CreateProfileResponse>(operation).profiles_size();
}

// How often servers have said that they ended `operation`.
int TimesDone(const std::string& name, const std::vector<const ServerProcess*>& servers) {
  const std::string id = name.substr(name.find('/') + 1);
  int times = 0;
  for (const ServerProcess* server : servers) {
    std::istringstream log(server->Log());
    for (std::string line; std::getline(log, line);) {
      if (line.find("operation done") != std::string::npos && line.find(id) != std::string::npos) {
        ++times;
      }
    }
  }
  return times;
}

TEST(Replicas, FinishWhatAKilledOneWasAt) {
  const TempDir dir;
  ServerProcess a(dir, kLongLease, "a"), b(dir, kLongLease, "b");
  a.Upload(JsonLines(kLong, "long"));  // b learns of it when it has to
  const std::string running = a.StartProfile("mine");
  const std::string queued = a.StartProfile();
  ASSERT_TRUE(a.HasProgress(running));
  EXPECT_THAT(MetadataOf(b.GetOperation(running)).state(), Metadata::RUNNING);
  EXPECT_THAT(MetadataOf(b.GetOperation(queued)).state(), Metadata::QUEUED);
  EXPECT_TRUE(WIFSIGNALED(a.Kill(SIGKILL)));
  EXPECT_EQ(b.StartProfile("mine"), running);
  EXPECT_EQ(Profiles(b.Wait(running)), 1) << b.Log();
  EXPECT_EQ(Profiles(b.Wait(queued)), 1) << b.Log();
  EXPECT_EQ(TimesDone(running, {&b}), 1);
}

// It may be the network, or a machine that sleeps: to others it is as good as dead.
TEST(Replicas, ReplaceOneThatStandsStillWhichThenAgrees) {
  const TempDir dir;
  const std::vector<std::string> lease = {"--lease-seconds", "3"};
  ServerProcess a(dir, lease, "a"), b(dir, lease, "b");
  a.Upload(JsonLines(kLong, "long"));
  const std::string name = a.StartProfile();
  ASSERT_TRUE(a.HasProgress(name));
  a.Signal(SIGSTOP);
  const lro::Operation done = b.Wait(name);
  EXPECT_EQ(Profiles(done), 1) << b.Log();
  a.Signal(SIGCONT);
  EXPECT_EQ(a.Wait(name).response().value(), done.response().value()) << a.Log();
  EXPECT_EQ(MetadataOf(a.GetOperation(name)).end_time().seconds(),
            MetadataOf(done).end_time().seconds());
  EXPECT_EQ(TimesDone(name, {&b}), 1);
}

TEST(Replicas, AnswerForEachOthersOperations) {
  const TempDir dir;
  ServerProcess a(dir, {}, "a"), b(dir, {}, "b");
  a.Upload(JsonLines(kLong, "long"));
  const std::string running = a.StartProfile();
  const std::string queued = a.StartProfile();
  ASSERT_TRUE(a.HasProgress(running));

  EXPECT_TRUE(Eventually([&b] {
    lro::ListOperationsResponse listed;
    grpc::ClientContext context;
    EXPECT_RPC_OK(b.operations().ListOperations(&context, {}, &listed));
    return listed.operations_size() == 2;
  }));

  // A watch of what b has never heard of, until the end.
  std::vector<Metadata::State> seen;
  std::thread watcher([&] {
    grpc::ClientContext context;
    v1::WatchOperationRequest request;
    request.set_name(queued);
    const auto reader = b.stub().WatchOperation(&context, request);
    v1::WatchOperationResponse response;
    while (reader->Read(&response)) seen.push_back(MetadataOf(response.operation()).state());
    EXPECT_RPC_OK(reader->Finish());
  });
  lro::Operation waited;
  std::thread waiter([&] {
    grpc::ClientContext context;
    lro::WaitOperationRequest request;
    request.set_name(running);
    EXPECT_RPC_OK(b.operations().WaitOperation(&context, request, &waited));
  });
  ASSERT_RPC_OK(b.Cancel(running));
  waiter.join();
  EXPECT_EQ(waited.error().code(), grpc::CANCELLED);
  EXPECT_EQ(MetadataOf(a.Wait(running)).state(), Metadata::CANCELLED);
  watcher.join();
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), Metadata::SUCCEEDED);

  lro::DeleteOperationRequest remove;
  remove.set_name(queued);
  google::protobuf::Empty empty;
  grpc::ClientContext remove_context;
  EXPECT_RPC_OK(b.operations().DeleteOperation(&remove_context, remove, &empty));
}

TEST(Replicas, ComputeTheSameRequestOnce) {
  const TempDir dir;
  ServerProcess a(dir, {}, "a"), b(dir, {}, "b");
  a.Upload(JsonLines(kLong, "long"));
  const std::string name = a.StartProfile("mine");
  EXPECT_EQ(b.StartProfile("mine"), name);
  v1::CreateProfileRequest other = ProfileAll("mine");
  other.set_filter(R"(labels.language = "en")");
  lro::Operation operation;
  EXPECT_THAT(b.Call(&Stub::CreateProfile, other, &operation),
              IsError(grpc::INVALID_ARGUMENT, "REQUEST_ID_REUSED"));
  EXPECT_EQ(Profiles(b.Wait(name)), 1);
  EXPECT_EQ(Profiles(a.Wait(name)), 1);
  EXPECT_EQ(b.StartProfile("mine"), name);
  EXPECT_EQ(TimesDone(name, {&a, &b}), 1);
}

TEST(Replicas, TakeOverFromOneThatDrainsAtOnceAndFromEachOtherWhileTheyAreRestarted) {
  const TempDir dir;
  auto now = std::make_unique<ServerProcess>(dir, kLongLease, "0");
  now->Upload(JsonLines(kLong, "long"));
  const std::string name = now->StartProfile();
  const std::string queued = now->StartProfile();
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(now->HasProgress(name)) << now->Log();
    auto next = std::make_unique<ServerProcess>(dir, kLongLease, std::to_string(i));
    const int status = now->Kill(SIGTERM);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_THAT(MetadataOf(next->GetOperation(name)).state(),
                AnyOf(Metadata::QUEUED, Metadata::RUNNING));
    now = std::move(next);
  }
  EXPECT_EQ(Profiles(now->Wait(name)), 1) << now->Log();
  EXPECT_EQ(Profiles(now->Wait(queued)), 1) << now->Log();
}

}  // namespace
}  // namespace secateur
