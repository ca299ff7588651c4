// Servers that are told to end while clients work with them.
//
// 10,000 requests during the rolling restart; SECATEUR_CHAOS_REQUESTS says otherwise.
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "client/secateur_client.h"
#include "server/base/mutex.h"
#include "server/base/strings.h"
#include "tests/integration/server_process.h"
#include "tests/support/child_process.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::IsEmpty;

constexpr int kClients = 8;
// Nobody waits for that where a process was shut down.
const std::vector<std::string> kLongLease = {"--lease-seconds", "3600"};

int Requests() {
  const char* requests = std::getenv("SECATEUR_CHAOS_REQUESTS");
  return requests != nullptr ? std::atoi(requests) : 10'000;
}

// Clients of all `addresses` in turn, each with a request under way at any time, until it is told
// to stop. What is not answered with OK is lost.
class Load {
 public:
  explicit Load(const std::string& addresses) {
    for (int i = 0; i < kClients; ++i) {
      threads_.emplace_back([this, addresses, i] {
        const auto client = SecateurClient::Connect({.address = addresses});
        ASSERT_OK(client);
        for (int turn = i; !stop_; ++turn) Count(Ask(*client, turn));
      });
    }
  }
  ~Load() { Stop(); }

  void WaitFor(int requests) {
    while (answered_ < requests) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  int answered() const { return answered_; }
  // After Stop().
  const std::vector<std::string>& operations() const { return operations_; }
  const std::vector<std::string>& lost() const { return lost_; }

 private:
  absl::Status Ask(const SecateurClient& client, int turn) {
    switch (turn % 8) {
      case 0:
        return client.ListCorpora().status();
      case 1:
        return Plan(client);
      case 2:
        return Profile(client);
      case 3:
        return Expert(client, turn);
      default:
        return client.AttachOperation(SomeOperation(turn)).Get().status();
    }
  }
  static absl::Status Plan(const SecateurClient& client) {
    v1::PlanExpertRequest request;
    request.set_parent("models/tiny");
    *request.mutable_spec() = EnglishRequest().spec();
    return client.PlanExpert(request).status();
  }
  absl::Status Profile(const SecateurClient& client) {
    const auto operation = client.CreateProfile(ProfileAll());
    if (operation.ok()) Accepted(operation->name());
    return operation.status();
  }
  // Now and then one that is made again.
  absl::Status Expert(const SecateurClient& client, int turn) {
    v1::CreateExpertRequest request = EnglishRequest(turn % 16 == 3 ? 0.25 : 0.5);
    if (turn % 128 == 3) request.set_cache_policy(v1::REFRESH);
    const auto operation = client.CreateExpert(request);
    if (operation.ok()) Accepted(operation->name());
    return operation.status();
  }

  void Accepted(const std::string& name) {
    MutexLock lock(mutex_);
    operations_.push_back(name);
  }
  std::string SomeOperation(int turn) {
    while (!stop_) {
      MutexLock lock(mutex_);
      if (!operations_.empty()) return operations_[static_cast<size_t>(turn) % operations_.size()];
      std::this_thread::yield();
    }
    return "";
  }
  void Count(const absl::Status& status) {
    if (stop_ && absl::IsInvalidArgument(status)) return;  // no operation to ask for, at the end
    if (!status.ok()) {
      MutexLock lock(mutex_);
      lost_.push_back(status.ToString());
    }
    ++answered_;
  }

  std::atomic<bool> stop_{false};
  std::atomic<int> answered_{0};
  Mutex mutex_;
  std::vector<std::string> operations_, lost_;
  std::vector<std::thread> threads_;
};

TEST(RollingRestart, OfTwoReplicasLosesNoRequest) {
  const TempDir dir;
  const int ports[] = {FreePort(), FreePort()};
  const auto start = [&](int replica, const std::string& name) {
    std::vector<std::string> flags = kLongLease;
    flags.insert(flags.end(),
                 {"--listen", StrCat("127.0.0.1:", ports[replica]), "--drain-seconds", "2",
                  "--max-queued-operations", "100000", "--keep-operations", "100000"});
    return std::make_unique<ServerProcess>(dir, flags, name);
  };
  std::unique_ptr<ServerProcess> replicas[] = {start(0, "a0"), start(1, "b0")};
  replicas[0]->Upload(JsonLines(5, "laws"));
  ASSERT_TRUE(replicas[0]->Wait(replicas[0]->StartProfile()).has_response());
  for (const auto& replica : replicas) replica->HangUp();

  const std::string addresses = StrCat("ipv4:127.0.0.1:", ports[0], ",127.0.0.1:", ports[1]);
  Load load(addresses);
  for (const int replica : {0, 1}) {
    load.WaitFor((replica + 1) * Requests() / 4);
    const int status = replicas[replica]->Kill(SIGTERM);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << replicas[replica]->Log();
    replicas[replica] = start(replica, replica == 0 ? "a1" : "b1");
    replicas[replica]->HangUp();
  }
  load.WaitFor(Requests());
  load.Stop();

  std::vector<std::string> lost = load.lost();
  const auto client = SecateurClient::Connect({.address = addresses});
  for (const std::string& name : load.operations()) {
    const auto done = client->AttachOperation(name).Wait();
    const absl::Status result = done.ok() ? ErrorOf(*done) : done.status();
    if (!result.ok()) lost.push_back(StrCat(name, ": ", result.ToString()));
  }
  EXPECT_THAT(lost, IsEmpty());
  std::cout << "chaos: rolling restart, " << load.answered() << " requests, "
            << load.operations().size() << " operations, " << lost.size() << " lost\n";
}

TEST(SecondSigterm, EndsTheServerAtOnceAndTheNextFinishesItsWork) {
  const TempDir dir;
  std::string name;
  {
    std::vector<std::string> flags = kLongLease;
    flags.insert(flags.end(), {"--drain-seconds", "3600"});
    ServerProcess server(dir, flags, "first");
    server.Upload(JsonLines(3000, "long"));
    name = server.StartProfile();
    ASSERT_TRUE(server.HasProgress(name));
    server.Signal(SIGTERM);
    EXPECT_TRUE(Eventually([&] { return server.Log().find("draining") != std::string::npos; }));
    EXPECT_FALSE(server.GetOperation(name).done());  // it has an hour
    const int status = server.Kill(SIGTERM);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 1);
    EXPECT_EQ(server.Log().find("operation done"), std::string::npos);
  }
  ServerProcess next(dir, kLongLease, "second");
  EXPECT_EQ(ResponseOf<v1::CreateProfileResponse>(next.Wait(name)).profiles_size(), 1);
}

}  // namespace
}  // namespace secateur
