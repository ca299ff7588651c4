// What a server says to work for which it has no room, now or ever, and to work that waited in
// vain.
#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using Stub = v1::Secateur::Stub;
using Metadata = v1::OperationMetadata;

constexpr int kLong = 12'000;  // documents that take much longer than anything else here

v1::CreateProfileRequest ProfileOf(const std::string& language) {
  v1::CreateProfileRequest request;
  request.set_parent("models/tiny");
  request.set_filter("labels.language = \"" + language + "\"");
  return request;
}

grpc::Status Start(LiveServer& live, const std::string& language, lro::Operation* operation) {
  return live.Call(&Stub::CreateProfile, ProfileOf(language), operation);
}

// Busy with a profile that takes long, on its only worker; a short one can be asked for.
lro::Operation KeepBusy(LiveServer& live) {
  live.Upload({{"language", "en"}}, JsonLines(kLong, "long"));
  live.Upload({{"language", "de"}}, JsonLines(2, "short"));
  lro::Operation running;
  EXPECT_RPC_OK(Start(live, "en", &running));
  EXPECT_TRUE(Eventually(
      [&] { return MetadataOf(live.GetOperation(running.name())).state() == Metadata::RUNNING; }));
  return running;
}

TEST(Admission, TellsWhoseQuotaIsUsedUpAndWhenToComeBack) {
  LiveServer live([](ServerOptions& options) {
    options.workers = 1;
    options.max_operations_per_tenant = 1;
  });
  const lro::Operation running = KeepBusy(live);
  lro::Operation operation;
  const grpc::Status refused = Start(live, "de", &operation);
  EXPECT_THAT(refused, IsError(grpc::RESOURCE_EXHAUSTED, "TENANT_QUOTA"));
  const RpcError error = ErrorOf(refused);
  EXPECT_EQ(error.quota, "tenants/default");
  EXPECT_TRUE(error.retry);
  EXPECT_THAT(error.message, HasSubstr("--max-operations-per-tenant"));
  EXPECT_THAT(live.Http("/metrics"),
              HasSubstr("secateur_operations_refused_total{"
                        "reason=\"TENANT_QUOTA\",type=\"CreateProfile\"} 1"));
  ASSERT_RPC_OK(live.Cancel(running.name()));
  live.Wait(running);
  ASSERT_RPC_OK(Start(live, "de", &operation));
  EXPECT_TRUE(live.Wait(operation).has_response());
}

TEST(Admission, TellsWhatWillNeverFitBeforeAnyWork) {
  LiveServer live([](ServerOptions& options) { options.max_reserved_memory_bytes = 1 << 20; });
  UploadLawCorpora(live);
  lro::Operation operation;
  const grpc::Status refused = live.Create(LawRequest(), &operation);
  EXPECT_THAT(refused, IsError(grpc::RESOURCE_EXHAUSTED, "TOO_LARGE"));
  EXPECT_EQ(ErrorOf(refused).quota, "server");
  EXPECT_FALSE(ErrorOf(refused).retry);
  EXPECT_THAT(refused.error_message(), HasSubstr("--max-reserved-memory-bytes"));
}

// A plan states what compensation takes of an expert's text; what is reserved is no less.
TEST(Admission, KeepsRoomOnDiskForAllThatItHasAccepted) {
  constexpr int64_t kRoom = 3 << 20;
  LiveServer live([](ServerOptions& options) {
    options.workers = 1;
    options.max_reserved_disk_bytes = kRoom;
  });
  const lro::Operation running = KeepBusy(live);
  UploadLawCorpora(live);
  v1::GetModelRequest get;
  get.set_name("models/tiny");
  v1::Model model;
  ASSERT_RPC_OK(live.Call(&Stub::GetModel, get, &model));
  grpc::Status refused;
  int64_t accepted = 0;
  while (refused.ok() && accepted < 60) {
    lro::Operation operation;
    refused = live.Create(LawRequest(), &operation);
    accepted += refused.ok() ? 1 : 0;
  }
  EXPECT_THAT(refused, IsError(grpc::RESOURCE_EXHAUSTED, "DISK_RESERVED"));
  EXPECT_TRUE(ErrorOf(refused).retry);
  EXPECT_GT(accepted, 0);
  EXPECT_LE(accepted * model.parameter_count() * 2, kRoom);  // of two bytes at least
  EXPECT_RPC_OK(live.Cancel(running.name()));
}

TEST(Admission, EndsWhatWaitsTooLongWhileTheOnlyWorkerIsBusy) {
  LiveServer live([](ServerOptions& options) {
    options.workers = 1;
    options.max_queue_time = absl::Seconds(1);
  });
  const lro::Operation running = KeepBusy(live);
  lro::Operation waiting;
  ASSERT_RPC_OK(Start(live, "de", &waiting));
  const lro::Operation ended = live.Wait(waiting);
  EXPECT_FALSE(live.GetOperation(running.name()).done());
  EXPECT_EQ(MetadataOf(ended).state(), Metadata::FAILED);
  EXPECT_FALSE(MetadataOf(ended).has_start_time());
  const RpcError error = ErrorOf(ended.error());
  EXPECT_EQ(error.code, grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(error.reason, "QUEUE_DEADLINE");
  EXPECT_TRUE(error.retry);
  EXPECT_THAT(live.Http("/metrics"),
              HasSubstr("secateur_operations_refused_total{"
                        "reason=\"QUEUE_DEADLINE\",type=\"CreateProfile\"} 1"));
  EXPECT_RPC_OK(live.Cancel(running.name()));
}

}  // namespace
}  // namespace secateur
