// google.longrunning.Operations and WatchOperation over gRPC.
#include <thread>

#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Stub = v1::Secateur::Stub;
using Metadata = v1::OperationMetadata;

constexpr int kLong = 3000;  // documents that take much longer than a call

v1::CreateProfileRequest ProfileRequest(const std::string& filter = "*") {
  v1::CreateProfileRequest request;
  request.set_parent("models/tiny");
  request.set_filter(filter);
  return request;
}

lro::Operation StartProfile(LiveServer& live, const v1::CreateProfileRequest& request) {
  lro::Operation operation;
  EXPECT_RPC_OK(live.Call(&Stub::CreateProfile, request, &operation));
  return operation;
}

// One worker, busy with a profile that takes long, and a second one that waits.
class BusyServerTest : public testing::Test {
 protected:
  BusyServerTest()
      : live_([](ServerOptions& options) {
          options.workers = 1;
          options.max_queued_operations = 1;
        }) {
    live_.Upload({{"language", "en"}}, JsonLines(kLong, "long"));
    live_.Upload({{"language", "de"}}, JsonLines(2, "short"));
    running_ = StartProfile(live_, ProfileRequest(R"(labels.language = "en")"));
    EXPECT_TRUE(live_.HasProgress(running_.name()));
    queued_ = StartProfile(live_, ProfileRequest(R"(labels.language = "de")"));
  }
  ~BusyServerTest() override { EXPECT_RPC_OK(live_.Cancel(running_.name())); }

  LiveServer live_;
  lro::Operation running_, queued_;
};

TEST_F(BusyServerTest, CancelsAQueuedOperationAtOnce) {
  EXPECT_EQ(MetadataOf(queued_).state(), Metadata::QUEUED);
  ASSERT_RPC_OK(live_.Cancel(queued_.name()));
  const lro::Operation cancelled = live_.GetOperation(queued_.name());
  EXPECT_TRUE(cancelled.done());
  EXPECT_EQ(cancelled.error().code(), grpc::CANCELLED);
  EXPECT_EQ(MetadataOf(cancelled).state(), Metadata::CANCELLED);
  EXPECT_TRUE(MetadataOf(cancelled).cancel_requested());
  EXPECT_FALSE(MetadataOf(cancelled).has_start_time());
  EXPECT_RPC_OK(live_.Cancel(queued_.name()));  // again: nothing to do
  EXPECT_FALSE(live_.GetOperation(running_.name()).done());
}

TEST_F(BusyServerTest, CancelsARunningOperationWithinABatchAndLeavesNothing) {
  ASSERT_RPC_OK(live_.Cancel(running_.name()));
  const lro::Operation cancelled = live_.Wait(running_);
  EXPECT_EQ(cancelled.error().code(), grpc::CANCELLED);
  EXPECT_EQ(MetadataOf(cancelled).state(), Metadata::CANCELLED);
  EXPECT_TRUE(live_.Wait(queued_).has_response());  // the next one has its turn
  v1::ListProfilesRequest list;
  list.set_parent("models/tiny");
  v1::ListProfilesResponse profiles;
  ASSERT_RPC_OK(live_.Call(&Stub::ListProfiles, list, &profiles));
  EXPECT_THAT(profiles.profiles(), testing::SizeIs(1));
}

TEST_F(BusyServerTest, SaysWhenToComeBackWhenTheQueueIsFull) {
  lro::Operation operation;
  const grpc::Status status = live_.Call(&Stub::CreateProfile, ProfileRequest(), &operation);
  EXPECT_THAT(status, IsError(grpc::RESOURCE_EXHAUSTED, "QUEUE_FULL"));
  EXPECT_TRUE(ErrorOf(status).retry);
}

TEST_F(BusyServerTest, AnswersAWaitWhenItsTimeIsUp) {
  lro::WaitOperationRequest request;
  request.set_name(running_.name());
  request.mutable_timeout()->set_nanos(1000);
  grpc::ClientContext context;
  lro::Operation now;
  ASSERT_RPC_OK(live_.operations().WaitOperation(&context, request, &now));
  EXPECT_EQ(now.name(), running_.name());
  EXPECT_FALSE(now.done());
}

TEST_F(BusyServerTest, RefusesToForgetWhatIsNotDone) {
  lro::DeleteOperationRequest request;
  request.set_name(running_.name());
  google::protobuf::Empty empty;
  grpc::ClientContext first;
  EXPECT_THAT(live_.operations().DeleteOperation(&first, request, &empty),
              IsError(grpc::FAILED_PRECONDITION, "FAILED_PRECONDITION"));
  ASSERT_RPC_OK(live_.Cancel(running_.name()));
  live_.Wait(running_);
  grpc::ClientContext second;
  EXPECT_RPC_OK(live_.operations().DeleteOperation(&second, request, &empty));
  lro::GetOperationRequest get;
  get.set_name(running_.name());
  grpc::ClientContext third;
  lro::Operation gone;
  EXPECT_THAT(live_.operations().GetOperation(&third, get, &gone),
              IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  running_ = queued_;
}

TEST_F(BusyServerTest, ShowsAWatcherTheStateAtOnceAndTheEnd) {
  std::vector<lro::Operation> seen;
  std::thread watcher([&] { seen = live_.Watch(queued_.name()); });
  ASSERT_RPC_OK(live_.Cancel(running_.name()));
  watcher.join();
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(MetadataOf(seen.back()).state(), Metadata::SUCCEEDED);
  const std::vector<lro::Operation> later = live_.Watch(queued_.name());  // re-attached
  ASSERT_EQ(later.size(), 1U);
  EXPECT_EQ(later[0].SerializeAsString(), seen.back().SerializeAsString());
}

TEST_F(BusyServerTest, OutlivesAWatcherThatGoesAway) {
  for (int i = 0; i < 20; ++i) {
    v1::WatchOperationRequest request;
    request.set_name(running_.name());
    grpc::ClientContext context;
    const auto reader = live_.stub().WatchOperation(&context, request);
    v1::WatchOperationResponse response;
    ASSERT_TRUE(reader->Read(&response));
    context.TryCancel();
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  }
  EXPECT_FALSE(live_.GetOperation(running_.name()).done());
}

TEST(CancelOperation, LeavesNoExpertBehind) {
  LiveServer live([](ServerOptions& options) { options.workers = 1; });
  live.Upload({{"language", "en"}, {"domain", "law"}}, JsonLines(2, "law"));
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->add_evaluation_corpora(
      live.Upload({{"language", "en"}}, JsonLines(kLong, "held out"), v1::EVALUATION).name());
  live.ProfileAll();
  const auto before = live.Stored();
  lro::Operation operation;
  ASSERT_RPC_OK(live.Create(request, &operation));
  // The weights are written, the evaluation takes long.
  ASSERT_TRUE(live.HasProgress(operation.name(), "evaluate"));
  EXPECT_GT(live.Stored().size(), before.size());
  ASSERT_RPC_OK(live.Cancel(operation.name()));
  EXPECT_EQ(live.Wait(operation).error().code(), grpc::CANCELLED);
  EXPECT_EQ(live.Stored(), before);
  EXPECT_TRUE(live.HasNoTemporaryFiles());
  v1::ListExpertsRequest list;
  list.set_parent("models/tiny");
  v1::ListExpertsResponse experts;
  ASSERT_RPC_OK(live.Call(&Stub::ListExperts, list, &experts));
  EXPECT_THAT(experts.experts(), IsEmpty());
}

TEST(RequestId, MakesTheSameRequestTheSameOperation) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateProfileRequest request = ProfileRequest();
  request.set_request_id("7c9e6679-7425-40de-944b-e07fc1f90ae7");
  const lro::Operation first = StartProfile(live, request);
  EXPECT_EQ(StartProfile(live, request).name(), first.name());
  live.Wait(first);
  EXPECT_EQ(StartProfile(live, request).name(), first.name());
  request.set_filter(R"(labels.language = "en")");
  lro::Operation operation;
  const grpc::Status reused = live.Call(&Stub::CreateProfile, request, &operation);
  EXPECT_THAT(reused, IsError(grpc::INVALID_ARGUMENT, "REQUEST_ID_REUSED"));
  EXPECT_EQ(ErrorOf(reused).field, "request_id");
  request.set_request_id("a b");
  EXPECT_EQ(ErrorOf(live.Call(&Stub::CreateProfile, request, &operation)).field, "request_id");
  request.clear_request_id();
  EXPECT_NE(StartProfile(live, request).name(), StartProfile(live, request).name());

  v1::CreateExpertRequest expert = LawRequest();
  expert.set_request_id("mine");
  ASSERT_RPC_OK(live.Create(expert, &operation));
  const std::string name = operation.name();
  live.Wait(operation);
  ASSERT_RPC_OK(live.Create(expert, &operation));  // cached by now, but the same operation
  EXPECT_EQ(operation.name(), name);
}

TEST(ListOperations, GivesTheNewestFirstInPagesOfAnySize) {
  LiveServer live;
  live.Upload({{"language", "en"}}, JsonLines(1, "law"));
  std::vector<std::string> names;
  for (int i = 0; i < 5; ++i) {
    names.insert(names.begin(), StartProfile(live, ProfileRequest()).name());
  }
  for (const int page_size : {0, 1, 2, 5}) {
    std::vector<std::string> listed;
    lro::ListOperationsRequest request;
    request.set_page_size(page_size);
    do {
      grpc::ClientContext context;
      lro::ListOperationsResponse response;
      ASSERT_RPC_OK(live.operations().ListOperations(&context, request, &response));
      for (const lro::Operation& operation : response.operations()) {
        listed.push_back(operation.name());
      }
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    EXPECT_EQ(listed, names) << page_size;
  }
  lro::ListOperationsRequest request;
  request.set_filter("done = true");
  grpc::ClientContext context;
  lro::ListOperationsResponse response;
  EXPECT_THAT(live.operations().ListOperations(&context, request, &response),
              IsError(grpc::UNIMPLEMENTED, "NOT_HONOURED"));
}

TEST(Operations, RefuseMalformedAndUnknownNames) {
  LiveServer live;
  const std::pair<std::string, std::pair<grpc::StatusCode, std::string>> cases[] = {
      {"", {grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"}},
      {"operations/", {grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"}},
      {"operations/o12", {grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"}},
      {"operations/o" + std::string(40, '0'), {grpc::NOT_FOUND, "NOT_FOUND"}},
  };
  for (const auto& [name, expected] : cases) {
    const auto error = IsError(expected.first, expected.second);
    lro::GetOperationRequest get;
    get.set_name(name);
    lro::WaitOperationRequest wait;
    wait.set_name(name);
    v1::WatchOperationRequest watch;
    watch.set_name(name);
    lro::Operation operation;
    grpc::ClientContext contexts[3];
    EXPECT_THAT(live.operations().GetOperation(&contexts[0], get, &operation), error) << name;
    EXPECT_THAT(live.operations().WaitOperation(&contexts[1], wait, &operation), error) << name;
    EXPECT_THAT(live.Cancel(name), error) << name;
    const auto reader = live.stub().WatchOperation(&contexts[2], watch);
    v1::WatchOperationResponse response;
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_THAT(reader->Finish(), error) << name;
  }
}

}  // namespace
}  // namespace secateur
