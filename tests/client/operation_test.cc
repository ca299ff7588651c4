#include "client/operation.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kName[] = "operations/o1";

v1::Expert TheExpert() {
  v1::Expert expert;
  expert.set_name("models/m/experts/e1");
  return expert;
}

void Send(FakeSecateur::WatchWriter& writer, const Operation& operation) {
  v1::WatchOperationResponse response;
  *response.mutable_operation() = operation;
  writer.Write(response);
}

WaitOptions Impatient() {
  WaitOptions options;
  options.first_pause = absl::Milliseconds(1);
  options.last_pause = absl::Milliseconds(5);
  return options;
}

class Waiting : public testing::Test {
 protected:
  PendingOperation<v1::Expert> Start() {
    server_.secateur.started.set_name(kName);
    return server_.Client().CreateExpert({}).value();
  }

  FakeServer server_;
};

TEST_F(Waiting, FollowsTheStreamAndReturnsTheResult) {
  server_.secateur.watch = [](int, auto&, FakeSecateur::WatchWriter& writer) {
    Send(writer, RunningOperation(kName, "profile", 0.25));
    Send(writer, RunningOperation(kName, "write", 0.5));
    Send(writer, SucceededOperation(kName, TheExpert()));
    return grpc::Status::OK;
  };
  std::vector<std::string> phases;
  WaitOptions options;
  options.progress = [&](const Operation& operation) {
    phases.push_back(MetadataOf(operation).progress().phase());
  };
  ASSERT_OK_AND_ASSIGN(const v1::Expert expert, Start().WaitForResult(options));
  EXPECT_EQ(expert.name(), "models/m/experts/e1");
  EXPECT_THAT(phases, ElementsAre("profile", "write", ""));
}

TEST_F(Waiting, MakesNoCallForAnOperationThatIsDone) {
  server_.secateur.started = SucceededOperation(kName, TheExpert());
  const auto operation = server_.Client().CreateExpert({});
  ASSERT_OK(operation);
  EXPECT_EQ(operation->WaitForResult()->name(), "models/m/experts/e1");
  EXPECT_EQ(server_.secateur.watches, 0);
}

TEST_F(Waiting, ReturnsTheOperationsOwnError) {
  server_.secateur.watch = [](int, auto&, FakeSecateur::WatchWriter& writer) {
    Send(writer, FailedOperation(kName, grpc::StatusCode::DATA_LOSS, "layer 3 differs"));
    return grpc::Status::OK;
  };
  const auto operation = Start();
  EXPECT_THAT(operation.WaitForResult(), StatusIs(absl::StatusCode::kDataLoss, "layer 3 differs"));
  // Wait itself succeeds: the operation is done.
  EXPECT_TRUE(operation.Wait()->has_error());
}

TEST_F(Waiting, AttachesAgainWhenTheStreamBreaks) {
  server_.secateur.watch = [](int call, auto&, FakeSecateur::WatchWriter& writer) {
    const grpc::Status breaks[] = {{grpc::StatusCode::UNAVAILABLE, "restarting"},
                                   {grpc::StatusCode::INTERNAL, "RST_STREAM"},
                                   grpc::Status::OK};
    if (call < 3) {
      Send(writer, RunningOperation(kName, "profile", 0.1 * call));
      return breaks[call];
    }
    Send(writer, SucceededOperation(kName, TheExpert()));
    return grpc::Status::OK;
  };
  EXPECT_OK(Start().WaitForResult(Impatient()));
  EXPECT_EQ(server_.secateur.watches, 4);
}

TEST_F(Waiting, EndsWhenTheServerHasForgottenTheOperation) {
  server_.secateur.watch = [](int call, auto&, auto&) {
    return call == 0 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting")
                     : grpc::Status(grpc::StatusCode::NOT_FOUND, "no operations/o1");
  };
  EXPECT_THAT(Start().WaitForResult(Impatient()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(kName)));
  EXPECT_EQ(server_.secateur.watches, 2);
}

TEST_F(Waiting, GivesUpWhenThereIsNoWordForTooLong) {
  server_.secateur.watch = [](int, auto&, auto&) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting");
  };
  WaitOptions options = Impatient();
  options.patience = absl::Milliseconds(20);
  EXPECT_THAT(Start().WaitForResult(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       testing::AllOf(HasSubstr(kName), HasSubstr("restarting"))));
}

TEST_F(Waiting, PollsAServerWithoutWatchOperation) {
  server_.secateur.watch = [](int, auto&, auto&) {
    return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "unknown method");
  };
  server_.operations.wait_answers = {RunningOperation(kName, "write", 0.5),
                                     RunningOperation(kName, "verify", 0.5),
                                     SucceededOperation(kName, TheExpert())};
  int words = 0;
  WaitOptions options = Impatient();
  options.progress = [&](const Operation&) { ++words; };
  EXPECT_OK(Start().WaitForResult(options));
  EXPECT_EQ(server_.secateur.watches, 1);
  EXPECT_EQ(server_.operations.wait_calls, 3u);
  EXPECT_EQ(words, 3);
}

TEST_F(Waiting, SaysSoWhenTheServerCanNeitherWatchNorWait) {
  server_.secateur.watch = [](int, auto&, auto&) {
    return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "unknown method");
  };
  EXPECT_THAT(Start().WaitForResult(Impatient()),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no WaitOperation")));
}

TEST_F(Waiting, StopsWhenAskedAndLeavesTheOperationAlone) {
  server_.secateur.watch = [](int, grpc::ServerContext& context,
                              FakeSecateur::WatchWriter& writer) {
    Send(writer, RunningOperation(kName, "profile", 0.5));
    while (!context.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  std::stop_source source;
  WaitOptions options;
  options.stop = source.get_token();
  options.progress = [&](const Operation&) { source.request_stop(); };
  EXPECT_THAT(Start().WaitForResult(options),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("it goes on")));
  EXPECT_EQ(server_.operations.cancelled, "");
}

TEST_F(Waiting, StopsInAPauseToo) {
  server_.secateur.watch = [](int, auto&, auto&) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting");
  };
  std::stop_source source;
  WaitOptions options;
  options.stop = source.get_token();
  options.first_pause = absl::Hours(1);
  options.last_pause = absl::Hours(1);
  const auto operation = Start();
  std::thread stopper([&] { source.request_stop(); });
  EXPECT_THAT(operation.Wait(options), StatusIs(absl::StatusCode::kCancelled));
  stopper.join();
}

TEST_F(Waiting, RefusesAResultOfAnotherType) {
  v1::Corpus corpus;
  server_.secateur.started = SucceededOperation(kName, corpus);
  EXPECT_THAT(
      server_.Client().CreateExpert({})->WaitForResult(),
      StatusIs(absl::StatusCode::kInternal,
               testing::AllOf(HasSubstr("secateur.v1.Corpus"), HasSubstr("secateur.v1.Expert"))));
}

TEST_F(Waiting, RefusesAResultThatIsNone) {
  server_.secateur.started.set_done(true);
  EXPECT_THAT(Start().WaitForResult(), StatusIs(absl::StatusCode::kInternal, HasSubstr("neither")));
  server_.secateur.started.mutable_error()->set_message("an error with code OK");
  EXPECT_THAT(Start().WaitForResult(), StatusIs(absl::StatusCode::kInternal, HasSubstr("neither")));
}

TEST_F(Waiting, CanBeTakenUpByName) {
  server_.secateur.watch = [](int, auto&, FakeSecateur::WatchWriter& writer) {
    Send(writer, SucceededOperation(kName, TheExpert()));
    return grpc::Status::OK;
  };
  server_.operations.known = {RunningOperation(kName, "write", 0.5)};
  const OperationHandle handle = server_.Client().AttachOperation(kName);
  EXPECT_FALSE(handle.Get()->done());
  EXPECT_TRUE(handle.Wait()->done());
  EXPECT_OK(handle.Cancel());
  EXPECT_EQ(server_.operations.cancelled, kName);
  EXPECT_THAT(server_.Client().AttachOperation("operations/none").Get(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("operations/none")));
}

TEST(OtherOperations, AreStartedWithTheirRequests) {
  FakeServer server;
  v1::CreateProfileResponse profiled;
  profiled.set_cached_count(3);
  server.secateur.started = SucceededOperation(kName, profiled);
  v1::CreateProfileRequest profile;
  profile.set_filter("*");
  EXPECT_EQ(server.Client().CreateProfile(profile)->WaitForResult()->cached_count(), 3);
  EXPECT_EQ(server.secateur.profile_request.filter(), "*");
  v1::Corpus corpus;
  corpus.set_name("corpora/c9");
  server.secateur.started = SucceededOperation(kName, corpus);
  v1::CreateCorpusRequest create;
  create.add_uris("file:/data/a.jsonl");
  EXPECT_EQ(server.Client().CreateCorpus(create)->WaitForResult()->name(), "corpora/c9");
  EXPECT_EQ(server.secateur.create_corpus_request.uris(0), "file:/data/a.jsonl");
}

}  // namespace
}  // namespace secateur
