// The server's life: start, health, metrics, reflection, drain.
#include <grpcpp/generic/generic_stub.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "server/base/strings.h"
#include "tests/integration/live_server.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using Stub = v1::Secateur::Stub;

constexpr int kServing = health::HealthCheckResponse::SERVING;
constexpr int kNotServing = health::HealthCheckResponse::NOT_SERVING;
const char* const kServices[] = {"", "secateur.v1.Secateur", "google.longrunning.Operations"};

TEST(Health, FollowsTheStore) {
  LiveServer live;
  for (const char* service : kServices) {
    EXPECT_TRUE(Eventually([&] { return live.Health(service) == kServing; })) << service;
  }
  EXPECT_EQ(live.Health("unknown.Service"), -1);
  EXPECT_THAT(live.Http("/readyz"), HasSubstr(" 200 "));
  EXPECT_THAT(live.Http("/startupz"), HasSubstr(" 200 "));
  // A store that cannot be written to: its folder for temporary files is a file.
  const std::string temporary = live.store() + "/.tmp";
  EXPECT_TRUE(Eventually([&] {
    std::error_code ignored;
    std::filesystem::remove_all(temporary, ignored);
    return static_cast<bool>(std::ofstream(temporary));
  }));
  for (const char* service : kServices) {
    EXPECT_TRUE(Eventually([&] { return live.Health(service) == kNotServing; })) << service;
  }
  EXPECT_THAT(live.Http("/readyz"), AllOf(HasSubstr(" 503 "), HasSubstr("store")));
  EXPECT_THAT(live.Http("/livez"), HasSubstr(" 200 "));
  std::filesystem::remove(temporary);
  EXPECT_TRUE(Eventually([&] { return live.Health() == kServing; }));
}

TEST(Health, TellsItsWatchersOfTheDrain) {
  LiveServer live;
  EXPECT_TRUE(Eventually([&] { return live.Health() == kServing; }));
  const auto stub = health::Health::NewStub(live.channel());
  grpc::ClientContext context;
  const auto reader = stub->Watch(&context, {});
  health::HealthCheckResponse now;
  ASSERT_TRUE(reader->Read(&now));
  EXPECT_EQ(now.status(), kServing);
  std::thread drain([&] { live.server().DrainAndStop(); });
  EXPECT_TRUE(reader->Read(&now));
  EXPECT_EQ(now.status(), kNotServing);
  context.TryCancel();
  drain.join();
}

TEST(Drain, LetsRunningWorkFinishAndTakesNoOther) {
  LiveServer live([](ServerOptions& options) { options.workers = 1; });
  live.Upload({{"language", "en"}, {"domain", "law"}}, JsonLines(2, "law"));
  live.ProfileAll();
  live.Upload({{"language", "de"}}, JsonLines(600, "long"));
  EXPECT_TRUE(Eventually([&] { return live.Health() == kServing; }));
  lro::Operation operation;
  ASSERT_RPC_OK(live.Call(&Stub::CreateProfile, ProfileAll(), &operation));
  ASSERT_TRUE(live.HasProgress(operation.name()));
  std::vector<lro::Operation> seen;
  std::thread watcher([&] { seen = live.Watch(operation.name()); });
  std::thread drain([&] { live.server().DrainAndStop(); });
  v1::CreateExpertRequest check = LawRequest();
  check.set_validate_only(true);
  grpc::Status refused;
  EXPECT_TRUE(Eventually([&] {
    lro::Operation checked;
    refused = live.Create(check, &checked);
    return !refused.ok();
  }));
  EXPECT_THAT(refused, IsError(grpc::UNAVAILABLE, "DRAINING"));
  EXPECT_TRUE(ErrorOf(refused).retry);
  EXPECT_EQ(live.Health(), kNotServing);
  EXPECT_THAT(live.Http("/readyz"), AllOf(HasSubstr(" 503 "), HasSubstr("draining")));
  EXPECT_THAT(live.Http("/livez"), HasSubstr(" 200 "));
  watcher.join();
  drain.join();
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(MetadataOf(seen.back()).state(), v1::OperationMetadata::SUCCEEDED);
}

TEST(Drain, TellsWatchersThatTheNextServerGoesOn) {
  LiveServer live([](ServerOptions& options) {
    options.workers = 1;
    options.drain = absl::ZeroDuration();
  });
  live.Upload({{"language", "en"}}, JsonLines(3000, "long"));
  grpc::ClientContext contexts[2];
  std::unique_ptr<grpc::ClientReader<v1::WatchOperationResponse>> readers[2];
  v1::WatchOperationResponse now;
  for (int i = 0; i < 2; ++i) {  // one runs, one waits
    lro::Operation operation;
    ASSERT_RPC_OK(live.Call(&Stub::CreateProfile, ProfileAll(), &operation));
    v1::WatchOperationRequest watch;
    watch.set_name(operation.name());
    readers[i] = live.stub().WatchOperation(&contexts[i], watch);
    ASSERT_TRUE(readers[i]->Read(&now));
  }
  live.server().DrainAndStop();
  for (const auto& reader : readers) {
    while (reader->Read(&now)) {
    }
    const grpc::Status end = reader->Finish();
    EXPECT_THAT(end, IsError(grpc::UNAVAILABLE, "DRAINING"));
    EXPECT_TRUE(ErrorOf(end).retry);
    EXPECT_EQ(MetadataOf(now.operation()).state(), v1::OperationMetadata::QUEUED);
  }
}

TEST(Metrics, CountCallsAndPassPromtool) {
  LiveServer live;
  UploadLawCorpora(live);
  live.Make(LawRequest());
  v1::GetModelRequest missing;
  missing.set_name("models/other");
  v1::Model model;
  EXPECT_FALSE(live.Call(&Stub::GetModel, missing, &model).ok());
  const std::string response = live.Http("/metrics");
  ASSERT_THAT(response, StartsWith("HTTP/1.1 200"));
  const std::string text = response.substr(response.find("\r\n\r\n") + 4);
  for (const char* line :
       {"secateur_rpc_duration_seconds_bucket{method=\"UploadCorpus\",le=\"+Inf\"} 3",
        "secateur_rpc_duration_seconds_count{method=\"CreateExpert\"} 1",
        "# TYPE secateur_rpc_duration_seconds histogram"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  const char* promtool = std::getenv("SECATEUR_PROMTOOL");
  if (promtool == nullptr) GTEST_SKIP() << "SECATEUR_PROMTOOL is not set";
  const std::string file = live.dir().Write("metrics", text);
  const std::string output = live.dir().Join("output");
  const int result =
      std::system(StrCat(promtool, " check metrics < ", file, " > ", output, " 2>&1").c_str());
  std::ifstream said(output);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(said), {}), "");
  EXPECT_EQ(result, 0);
}

// What server reflection answers. Requests and answers are bytes: the build has no generated code
// for them.
std::string Reflect(LiveServer& live, const std::string& asked) {
  const grpc::Slice slice(asked);
  grpc::ByteBuffer request(&slice, 1), response;
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(live.channel());
  grpc::ClientContext context;
  const auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok) && ok);
  };
  call->StartCall(nullptr);
  next();
  call->Write(request, nullptr);
  next();
  call->Read(&response, nullptr);
  next();
  call->WritesDone(nullptr);
  next();
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  EXPECT_RPC_OK(status);
  queue.Shutdown();
  grpc::Slice bytes;
  EXPECT_TRUE(response.DumpToSingleSlice(&bytes).ok());
  return {bytes.begin(), bytes.end()};
}

TEST(Reflection, ListsAndDescribesTheServices) {
  LiveServer live;
  // ServerReflectionRequest {list_services = 7: ""}
  const std::string listed = Reflect(live, std::string("\x3a\x00", 2));
  const std::pair<std::string, std::string> services[] = {
      {"secateur.v1.Secateur", "secateur/v1/secateur.proto"},
      {"google.longrunning.Operations", "google/longrunning/operations.proto"},
      {"grpc.health.v1.Health", "grpc/health/v1/health.proto"}};
  for (const auto& [service, file] : services) {
    EXPECT_THAT(listed, HasSubstr(service));
    // {file_containing_symbol = 4: service}
    const std::string symbol =
        StrCat("\x22", std::string(1, static_cast<char>(service.size())), service);
    EXPECT_THAT(Reflect(live, symbol), HasSubstr(file));
  }
}

TEST(Start, NamesTheFlagThatIsWrong) {
  LiveServer live;  // a model folder and a port that is taken
  ServerOptions options;
  options.models = {{"tiny", live.dir().Join("model")}};
  options.store = "file:" + live.dir().Join("other-store");
  options.metrics = "127.0.0.1:0";
  options.log_level = LogLevel::kError;
  const auto start = [&options](const std::function<void(ServerOptions&)>& change) {
    ServerOptions changed = options;
    changed.listen = "127.0.0.1:0";
    change(changed);
    return Server::Start(changed).status();
  };
  const std::string taken = StrCat("127.0.0.1:", live.server().port());
  EXPECT_THAT(start([&](auto& o) { o.listen = taken; }).message(), HasSubstr("--listen " + taken));
  EXPECT_THAT(start([&](auto& o) {
                o.metrics = StrCat("127.0.0.1:", live.server().metrics_port());
              }).message(),
              HasSubstr("--metrics"));
  EXPECT_THAT(start([](auto& o) { o.store = "hdfs://host/x"; }),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("--store")));
  EXPECT_THAT(start([&](auto& o) { o.models[0].folder = live.dir().Join("nowhere"); }).message(),
              HasSubstr("nowhere"));
  EXPECT_THAT(start([](auto& o) { o.listen = "0.0.0.0:0"; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--insecure")));
  EXPECT_THAT(start([](auto& o) { o.tls_cert = "cert.pem"; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--tls-key")));
  EXPECT_THAT(start([](auto& o) { o.device = "cuda:99"; }),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--device: "), HasSubstr("\"cuda:99\" does not exist"))));
  EXPECT_THAT(start([](auto& o) { o.allow_write = {"file:/no/such/folder"}; }).message(),
              HasSubstr("--allow-write"));
}

}  // namespace
}  // namespace secateur
