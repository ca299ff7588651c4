// secateurd on a bucket of a real S3 server: killed, drained, and with a store that stops
// answering.
#include <sys/wait.h>

#include <csignal>
#include <string>
#include <vector>

#include "server/base/digest.h"
#include "server/object_storage/arrow_store.h"
#include "tests/integration/live_server.h"
#include "tests/integration/server_process.h"
#include "tests/support/object_servers.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using Stub = v1::Secateur::Stub;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Some seconds of work on the tiny model.
constexpr int kLong = 3000;

// Arrow wants to be told before main() returns.
struct Arrow final : testing::Environment {
  void TearDown() override { EXPECT_TRUE(FinalizeObjectStorage()); }
};
[[maybe_unused]] const testing::Environment* const arrow =
    testing::AddGlobalTestEnvironment(new Arrow);

class Bucket : public testing::Test {
 protected:
  std::vector<std::string> Flags(std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--store", s3_.Uri("store")});
    return more;
  }
  // Makes an expert of everything profiled.
  static v1::Expert MakeExpert(ServerProcess& server, const std::string& output_uri = "") {
    v1::CreateExpertRequest request = EnglishRequest();
    request.set_output_uri(output_uri);
    lro::Operation operation;
    EXPECT_RPC_OK(server.Call(&Stub::CreateExpert, request, &operation));
    operation = server.Wait(operation.name());
    EXPECT_TRUE(operation.has_response()) << operation.DebugString() << server.Log();
    v1::Expert expert;
    operation.response().UnpackTo(&expert);
    return expert;
  }

  const TempDir dir_;
  S3Server s3_;
};

TEST_F(Bucket, HoldsEverythingThatAServerNeedsToStartAgain) {
  std::string name;
  {
    ServerProcess server(dir_, Flags());
    server.Upload(JsonLines(3, "short"));
    server.Wait(server.StartProfile());
    const v1::Expert expert = MakeExpert(server);
    name = expert.name();
    EXPECT_THAT(expert.uri(), HasSubstr("s3://bucket/store/tenants/default/experts/"));
    const int status = server.Kill(SIGTERM);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << server.Log();
    EXPECT_EQ(server.Log().find("testsecret"), std::string::npos);
  }
  ServerProcess server(dir_, Flags());
  v1::GetExpertRequest get;
  get.set_name(name);
  v1::Expert expert;
  EXPECT_RPC_OK(server.Call(&Stub::GetExpert, get, &expert));
  EXPECT_EQ(MakeExpert(server).name(), name);
  EXPECT_THAT(s3_.PendingUploads(), IsEmpty());
}

TEST_F(Bucket, KeepsWhatWasAcceptedByAServerThatIsKilled) {
  std::string running;
  {
    ServerProcess server(dir_, Flags());
    server.Upload(JsonLines(kLong, "long"));
    running = server.StartProfile();
    ASSERT_TRUE(server.HasProgress(running));
    EXPECT_TRUE(WIFSIGNALED(server.Kill(SIGKILL)));
  }
  ServerProcess server(dir_, Flags());
  EXPECT_TRUE(server.Wait(running).has_response()) << server.Log();
}

TEST_F(Bucket, GivesCorporaAndTakesExpertsWhereTheOperatorAllowsIt) {
  {
    const auto store = ArrowStore::Open(s3_.Uri("in"), {});
    ASSERT_OK(store);
    ASSERT_OK((*store)->Put("laws.jsonl", JsonLines(3, "short")));
  }
  const std::string in = s3_.Uri("in"), out = s3_.Uri("out");
  ServerProcess server(dir_, {"--allow-read", in, "--allow-write", out});
  v1::CreateCorpusRequest corpus;
  corpus.add_uris("s3://bucket/in/laws.jsonl");
  (*corpus.mutable_corpus()->mutable_labels())["language"] = "en";
  lro::Operation operation;
  ASSERT_RPC_OK(server.Call(&Stub::CreateCorpus, corpus, &operation));
  EXPECT_TRUE(server.Wait(operation.name()).has_response()) << server.Log();
  server.Wait(server.StartProfile());
  const v1::Expert expert = MakeExpert(server, "s3://bucket/out/expert");
  const auto copies = ArrowStore::Open(s3_.Uri("out/expert"), {});
  ASSERT_OK(copies);
  for (const v1::ExpertFile& file : expert.files()) {
    ASSERT_OK_AND_ASSIGN(const std::string bytes, (*copies)->ReadAll(file.name(), 1 << 30));
    EXPECT_EQ(Sha256Of(bytes).Hex(), file.sha256()) << file.name();
  }

  corpus.set_uris(0, "s3://bucket/store/laws.jsonl");
  EXPECT_EQ(server.Call(&Stub::CreateCorpus, corpus, &operation).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(Bucket, ThatStopsAnsweringIsNotServedAndServedAgainLater) {
  ServerProcess server(dir_, Flags({"--store-stall-seconds", "1"}));
  EXPECT_EQ(server.Log().find("not serving"), std::string::npos);
  s3_.process().Signal(SIGSTOP);
  EXPECT_TRUE(Eventually([&] { return server.Log().find("not serving") != std::string::npos; }));
  EXPECT_THAT(server.Log(), HasSubstr("no answer within"));
  s3_.process().Signal(SIGCONT);
  const size_t since = server.Log().find("not serving");
  EXPECT_TRUE(Eventually([&] {
    return server.Log().find("\"message\":\"serving\"", since) != std::string::npos;
  })) << server.Log();
  server.Upload(JsonLines(3, "short"));
}

TEST_F(Bucket, ThatARequestNamesAndThatHangsIsGivenUpAndCounted) {
  LiveServer live([&](ServerOptions& options) {
    options.allow_read = {s3_.Uri("in")};
    options.store_stall = absl::Milliseconds(200);
  });
  const auto hanging = [&](int count) {
    return "\nsecateur_store_hanging_calls " + std::to_string(count) + "\n";
  };
  EXPECT_THAT(live.Http("/metrics"), HasSubstr(hanging(0)));
  s3_.process().Signal(SIGSTOP);
  v1::CreateCorpusRequest corpus;
  corpus.add_uris("s3://bucket/in/laws.jsonl");
  (*corpus.mutable_corpus()->mutable_labels())["language"] = "en";
  lro::Operation operation;
  const grpc::Status called = live.Call(&Stub::CreateCorpus, corpus, &operation);
  EXPECT_EQ(called.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(called.error_message(), HasSubstr("s3://bucket/in: no answer within 200ms"));
  EXPECT_THAT(live.Http("/metrics"), HasSubstr(hanging(1)));
  EXPECT_THAT(live.Http("/readyz"), HasSubstr(" 200 "));  // the server's own store answers
  s3_.process().Signal(SIGCONT);
  EXPECT_TRUE(
      Eventually([&] { return live.Http("/metrics").find(hanging(0)) != std::string::npos; }));
}

TEST_F(Bucket, ThatHangsDoesNotKeepAServerFromEnding) {
  ServerProcess server(dir_, Flags());
  s3_.process().Signal(SIGSTOP);
  const int status = server.Kill(SIGTERM);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << server.Log();
  s3_.process().Signal(SIGCONT);
}

}  // namespace
}  // namespace secateur
