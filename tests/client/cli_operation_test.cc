// secateur operation ..., and how the other commands wait for one.
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tests/client/cli_long_work.h"

namespace secateur::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using OperationCliTest = LongWorkCliTest;

TEST_F(OperationCliTest, DrawsABarOnATerminalAndWipesIt) {
  EndWith(SucceededOperation(kOperation, TheExpert()));
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "35%"}, "", true), kOk);
  EXPECT_THAT(err_, AllOf(HasSubstr("[######......] profile  50%"), testing::EndsWith("\r\x1b[K")));
  EXPECT_THAT(out_, Not(HasSubstr("\x1b")));
}

TEST_F(OperationCliTest, PrintsTheOperationWhenItDoesNotWait) {
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "35%", "--no-wait"}), kOk);
  EXPECT_THAT(out_, HasSubstr("secateur operation watch operations/o1"));
  EXPECT_EQ(
      Run({"expert", "create", "--task", "qa", "--remove", "35%", "--no-wait", "--output", "json"}),
      kOk);
  EXPECT_EQ(Parsed<Operation>().name(), kOperation);
}

TEST_F(OperationCliTest, ExitsWithSevenWhenTheOperationFails) {
  EndWith(FailedOperation(kOperation, grpc::StatusCode::DATA_LOSS, "layer 3 differs"));
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "35%"}), kOperationFailed);
  EXPECT_THAT(err_, StartsWith("secateur: operations/o1: layer 3 differs\n"));
  EndWith(FailedOperation(kOperation, grpc::StatusCode::CANCELLED, "cancelled"));
  EXPECT_EQ(Run({"operation", "wait", "o1"}), kOperationFailed);
}

TEST_F(OperationCliTest, DetachesOnInterruptAndSaysHowToAttachAgain) {
  server_.secateur.watch = [](int, grpc::ServerContext& context,
                              FakeSecateur::WatchWriter& writer) {
    v1::WatchOperationResponse response;
    *response.mutable_operation() = RunningOperation(kOperation, "profile", 0.5);
    writer.Write(response);
    kill(getpid(), SIGINT);
    while (!context.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  EXPECT_EQ(Run({"expert", "create", "--task", "qa", "--remove", "35%"}), kDetached);
  EXPECT_EQ(err_,
            "secateur: operations/o1 goes on; see how it does with: "
            "secateur operation watch operations/o1\n");
  EXPECT_EQ(server_.operations.cancelled, "");
}

TEST_F(OperationCliTest, ShowsOperations) {
  server_.operations.known = {
      RunningOperation("operations/o1", "write", 0.25),
      SucceededOperation("operations/o2", TheExpert()),
      FailedOperation("operations/o3", grpc::StatusCode::INTERNAL, "a bug")};
  EXPECT_EQ(Run({"operation", "list"}), kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("operations/o1  CreateExpert  models/smollm2  running    "),
                          HasSubstr("write  25%"), HasSubstr("succeeded"), HasSubstr("a bug")));
  EXPECT_EQ(Run({"operation", "list", "--output", "json"}), kOk);
  EXPECT_EQ(Parsed<google::longrunning::ListOperationsResponse>().operations_size(), 3);
  EXPECT_EQ(Run({"operation", "get", "o2", "--output", "json"}), kOk);
  v1::Expert expert;
  EXPECT_TRUE(Parsed<Operation>().response().UnpackTo(&expert));
  ExpectSame(expert, TheExpert());
  EXPECT_EQ(Run({"operation", "get", "operations/none"}), kNotFound);
  EXPECT_EQ(Run({"operation", "cancel", "o1"}), kOk);
  EXPECT_EQ(server_.operations.cancelled, "operations/o1");
}

TEST_F(OperationCliTest, WaitsForAnOperation) {
  EndWith(SucceededOperation(kOperation, TheExpert()));
  EXPECT_EQ(Run({"operation", "wait", "o1"}), kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("operations/o1"), HasSubstr("succeeded")));
  EXPECT_EQ(Run({"operation", "wait", "o1", "--output", "json"}), kOk);
  EXPECT_TRUE(Parsed<Operation>().done());
}

TEST_F(OperationCliTest, WatchesAnOperationLineByLine) {
  EndWith(SucceededOperation(kOperation, TheExpert()));
  EXPECT_EQ(Run({"operation", "watch", "o1"}), kOk);
  EXPECT_EQ(out_,
            "running  profile  50%  1.00k of 2.00k tokens\n"
            "succeeded\n");
  EndWith(FailedOperation(kOperation, grpc::StatusCode::INTERNAL, "a bug"));
  EXPECT_EQ(Run({"operation", "watch", "o1"}), kOperationFailed);
  EXPECT_THAT(out_, HasSubstr("failed  a bug\n"));
}

}  // namespace
}  // namespace secateur::cli
