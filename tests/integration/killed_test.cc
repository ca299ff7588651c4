// A server process that is killed in the middle of its work, and the next one on the same store.
#include <sys/wait.h>

#include <csignal>
#include <string>

#include "tests/integration/server_process.h"

namespace secateur {
namespace {

// Nobody waits for that: the next process knows that the first has ended.
const std::vector<std::string> kLongLease = {"--lease-seconds", "3600"};

TEST(KilledServer, IsFollowedByOneThatFinishesWhatWasAccepted) {
  const TempDir dir;
  std::string running, queued, done;
  const std::string request_id = "2b1f9f0e-6f3e-4f0d-9d3c-1f2e3d4c5b6a";
  {
    ServerProcess server(dir, kLongLease);
    server.Upload(JsonLines(2, "short"));
    done = server.StartProfile();
    ASSERT_TRUE(server.Wait(done).has_response());
    server.Upload(JsonLines(3000, "long"));
    running = server.StartProfile(request_id);
    queued = server.StartProfile();
    ASSERT_TRUE(server.HasProgress(running));
    const int status = server.Kill(SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
  ServerProcess server(dir, kLongLease);
  // The same request is the same operation, whichever process is asked.
  EXPECT_EQ(server.StartProfile(request_id), running);
  EXPECT_TRUE(server.GetOperation(done).has_response());
  EXPECT_EQ(ResponseOf<v1::CreateProfileResponse>(server.Wait(running)).profiles_size(), 2);
  EXPECT_EQ(ResponseOf<v1::CreateProfileResponse>(server.Wait(queued)).cached_count(), 2);
}

TEST(DrainedServer, LeavesWhatItCannotFinishToTheNext) {
  const TempDir dir;
  std::string running;
  {
    ServerProcess server(dir, kLongLease);
    server.Upload(JsonLines(3000, "long"));
    running = server.StartProfile();
    ASSERT_TRUE(server.HasProgress(running));
    const int status = server.Kill(SIGTERM);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
  ServerProcess server(dir, kLongLease);
  EXPECT_EQ(ResponseOf<v1::CreateProfileResponse>(server.Wait(running)).profiles_size(), 1);
}

}  // namespace
}  // namespace secateur
