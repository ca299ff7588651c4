// A server whose store lies in a folder that nobody can write to: from the start, and for a while.
#include <string>

#include "tests/integration/live_server.h"
#include "tests/support/small_disk.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Stub = v1::Secateur::Stub;

constexpr int kServing = health::HealthCheckResponse::SERVING;
constexpr int kNotServing = health::HealthCheckResponse::NOT_SERVING;

TEST(ReadOnlyStore, IsSaidAtTheStartWithWhatToDo) {
  const TempDir dir;
  SmallDisk disk(dir.Join("disk"), "1m");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a file system";
  ASSERT_TRUE(disk.MakeReadOnly());
  ServerOptions options;
  options.models = {{"tiny", dir.path()}};
  options.store = "file:" + dir.Join("disk");
  options.listen = options.metrics = "127.0.0.1:0";
  EXPECT_THAT(Server::Start(options).status(),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("--store"), HasSubstr(dir.Join("disk")),
                             HasSubstr("Read-only file system"), HasSubstr("mount it writable"))));
}

TEST(ReadOnlyStore, ForAWhileIsNotServedAndNothingIsLost) {
  const TempDir dir;
  SmallDisk disk(dir.Join("disk"), "64m");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a file system";
  LiveServer live([&](ServerOptions& options) {
    options.store = "file:" + dir.Join("disk");
    options.workers = 1;
  });
  ASSERT_TRUE(Eventually([&] { return live.Health() == kServing; }));
  live.Upload({{"language", "en"}}, JsonLines(200, "long"));
  lro::Operation running;
  ASSERT_RPC_OK(live.Call(&Stub::CreateProfile, ProfileAll("the-profile"), &running));
  ASSERT_TRUE(live.HasProgress(running.name()));
  ASSERT_TRUE(Eventually([&] { return disk.MakeReadOnly(); }));

  EXPECT_TRUE(Eventually([&] { return live.Health() == kNotServing; }));
  EXPECT_THAT(live.Http("/readyz"),
              AllOf(HasSubstr(" 503 "), HasSubstr(dir.Join("disk")), HasSubstr("Read-only")));
  v1::UploadCorpusResponse uploaded;
  const grpc::Status refused =
      live.Upload(UploadMessages({{"language", "de"}}, JsonLines(2, "short")), &uploaded);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(refused.error_message(), AllOf(HasSubstr(dir.Join("disk")), HasSubstr("Read-only")));
  const lro::Operation failed = live.Wait(running);
  EXPECT_THAT(failed.error().message(), HasSubstr("Read-only"));

  ASSERT_TRUE(disk.MakeWritable());
  EXPECT_TRUE(Eventually([&] { return live.Health() == kServing; }));
  live.Restart();  // what the store could not take meanwhile is there
  EXPECT_THAT(live.GetOperation(running.name()).error().message(), HasSubstr("Read-only"));
  v1::ListCorporaResponse corpora;
  ASSERT_RPC_OK(live.Call(&Stub::ListCorpora, {}, &corpora));
  EXPECT_EQ(corpora.corpora_size(), 1);
  live.ProfileAll();
}

}  // namespace
}  // namespace secateur
