#include "server/jobs/job_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/base/errors.h"
#include "tests/jobs/process.h"

namespace secateur {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;
using testing::UnorderedElementsAre;
using State = OperationState;

class JobQueueTest : public testing::Test {
 protected:
  FakeClock clock_;
  MemoryStore blobs_{clock_};
};

TEST_F(JobQueueTest, RunsJobsInTheOrderInWhichTheyCameOnOneWorker) {
  Process process(blobs_, clock_, {.workers = 1});
  std::vector<std::string> expected, ids;
  for (int i = 0; i < 50; ++i) {
    expected.push_back(std::to_string(i));
    ids.push_back(process.Submit(Request("Echo", expected.back())));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Operation operation = process.WaitFor(ids[i]);
    EXPECT_EQ(operation.state, State::kSucceeded);
    EXPECT_EQ(operation.result.bytes, expected[i]);
  }
  EXPECT_EQ(process.ran(), expected);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), ids.size());
}

TEST_F(JobQueueTest, RunsAsManyJobsAtOnceAsItHasWorkers) {
  Process process(blobs_, clock_, {.workers = 3});
  std::vector<std::string> ids;
  for (const char* name : {"a", "b", "c"}) ids.push_back(process.Submit(Request("Block", name)));
  while (process.ran().size() < 3) std::this_thread::yield();  // or this would wait for ever
  process.ReleaseBlocks();
  for (const std::string& id : ids) EXPECT_EQ(process.WaitFor(id).state, State::kSucceeded);
}

TEST_F(JobQueueTest, CancelsAQueuedJobAtOnceAndNeverRunsIt) {
  Process process(blobs_, clock_, {.workers = 1});
  process.Submit(Request("Block", "running"));
  process.WaitUntilABlockRuns();
  const std::string queued = process.Submit(Request("Echo", "queued"));
  const std::string last = process.Submit(Request("Echo", "last"));
  ASSERT_OK(process.queue().Cancel(queued));
  ASSERT_OK_AND_ASSIGN(const Operation operation, process.queue().Get(queued));
  EXPECT_EQ(operation.state, State::kCancelled);
  EXPECT_EQ(operation.error.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(operation.start_time, absl::InfinitePast());
  process.ReleaseBlocks();
  process.WaitFor(last);
  EXPECT_THAT(process.ran(), ElementsAre("running", "last"));
}

TEST_F(JobQueueTest, CancelsARunningJobThroughItsContext) {
  Process process(blobs_, clock_, {.workers = 1});
  const std::string id = process.Submit(Request("Block", "running"));
  process.WaitUntilABlockRuns();
  ASSERT_OK(process.queue().Cancel(id));
  ASSERT_OK(process.queue().Cancel(id));
  const Operation operation = process.WaitFor(id);
  EXPECT_EQ(operation.state, State::kCancelled);
  EXPECT_TRUE(operation.cancel_requested);
  EXPECT_OK(process.queue().Cancel(id));  // done: nothing to do
  EXPECT_THAT(process.queue().Cancel("o0"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("o0")));
}

TEST_F(JobQueueTest, KeepsTheErrorOfAJobThatFails) {
  Process process(blobs_, clock_);
  const Operation operation = process.WaitFor(process.Submit(Request("Fail", "lost")));
  EXPECT_EQ(operation.state, State::kFailed);
  EXPECT_EQ(operation.error, absl::DataLossError("lost"));
  EXPECT_THAT(process.queue().Submit(Request("Unknown", "")),
              StatusIs(absl::StatusCode::kInternal));
}

TEST_F(JobQueueTest, KnowsARequestAgainByItsId) {
  Process process(blobs_, clock_);
  const std::string id = process.Submit(Request("Echo", "a", "mine"));
  EXPECT_EQ(process.Submit(Request("Echo", "a", "mine")), id);
  process.WaitFor(id);
  EXPECT_EQ(process.Submit(Request("Echo", "a", "mine")), id);
  EXPECT_THAT(process.ran(), ElementsAre("a"));
  ASSERT_OK_AND_ASSIGN(
      const Operation known,
      process.queue().SubmitDone(Request("Echo", "a", "mine"), {"other", "result"}));
  EXPECT_EQ(known.id, id);
  EXPECT_EQ(known.result.bytes, "a");
  const absl::Status reused = process.queue().Submit(Request("Echo", "b", "mine")).status();
  EXPECT_THAT(reused, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("mine")));
  EXPECT_EQ(NotesOf(reused).reason, "REQUEST_ID_REUSED");
  EXPECT_EQ(NotesOf(reused).field, "request_id");
  EXPECT_NE(process.Submit(Request("Fail", "a", "mine")), id);  // another method
  // The id of the operation follows from the request: another server gives the same.
  EXPECT_EQ(Process(blobs_, clock_).Submit(Request("Echo", "a", "mine")), id);
}

TEST_F(JobQueueTest, TakesAResultThatIsThereAlready) {
  Process process(blobs_, clock_);
  ASSERT_OK_AND_ASSIGN(const Operation operation,
                       process.queue().SubmitDone(Request("Echo", "a"), {"type", "result"}));
  EXPECT_EQ(operation.state, State::kSucceeded);
  EXPECT_EQ(operation.result.bytes, "result");
  EXPECT_EQ(process.WaitFor(operation.id).result.bytes, "result");
  EXPECT_THAT(process.ran(), IsEmpty());
}

TEST_F(JobQueueTest, TellsObserversThePresentStateEachChangeAndTheEnd) {
  Process process(blobs_, clock_, {.workers = 1});
  process.Submit(Request("Block", "first"));
  const std::string id = process.Submit(Request("Block", "second"));
  Mutex mutex;
  std::vector<State> seen;
  int64_t dropped = 0;
  ASSERT_OK(process.queue().Observe(id, [&](const Operation& now) {
    MutexLock lock(mutex);
    seen.push_back(now.state);
  }));
  ASSERT_OK_AND_ASSIGN(const int64_t ticket,
                       process.queue().Observe(id, [&](const Operation&) { ++dropped; }));
  process.queue().Unobserve(ticket);
  process.queue().Unobserve(ticket);
  EXPECT_EQ(dropped, 1);  // the state at once, nothing after it left
  process.ReleaseBlocks();
  process.WaitFor(id);
  MutexLock lock(mutex);
  EXPECT_THAT(seen, ElementsAre(State::kQueued, State::kRunning, State::kSucceeded));
  EXPECT_EQ(dropped, 1);
  EXPECT_THAT(process.queue().Observe("o0", [](const Operation&) {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("o0")));
}

TEST_F(JobQueueTest, ReportsTheRateAndTheTimeThatIsLeftOfEachPhase) {
  std::vector<OperationProgress> seen;
  const auto step = [this](const OperationRequest&) -> absl::StatusOr<Job> {
    return Job([this](RunContext& run) -> absl::StatusOr<TypedBytes> {
      run.Report({"profile", 0, 1000, "tokens"});
      clock_.Advance(absl::Seconds(2));
      run.Report({"profile", 500, 1000, "tokens"});
      clock_.Advance(absl::Milliseconds(10));
      run.Report({"profile", 510, 1000, "tokens"});  // too soon for another message
      run.Report({"write", 5, 0, "bytes"});
      return TypedBytes{};
    });
  };
  Process process(blobs_, clock_, {.workers = 1}, {{"Step", step}});
  process.Submit(Request("Block", ""));
  const std::string id = process.Submit(Request("Step", ""));
  ASSERT_OK(process.queue().Observe(id, [&seen](const Operation& now) {
    if (!now.progress.phase.empty()) seen.push_back(now.progress);
  }));
  process.ReleaseBlocks();
  process.WaitFor(id);
  ASSERT_THAT(seen, SizeIs(4));  // two of "profile", one of "write", the end
  EXPECT_EQ(seen[1].done, 500);
  EXPECT_DOUBLE_EQ(seen[1].rate, 250);
  EXPECT_DOUBLE_EQ(seen[1].tokens_per_second, 250);
  EXPECT_EQ(seen[1].eta, absl::Seconds(2));
  EXPECT_EQ(seen[2].phase, "write");
  EXPECT_EQ(seen[2].rate, 0);
  EXPECT_EQ(seen[2].eta, absl::InfiniteDuration());
  EXPECT_GT(seen[2].tokens_per_second, 0);  // of the profile before
}

TEST_F(JobQueueTest, CountsTheTimeOfEachPhase) {
  const auto step = [this](const OperationRequest&) -> absl::StatusOr<Job> {
    return Job([this](RunContext& run) -> absl::StatusOr<TypedBytes> {
      clock_.Advance(absl::Seconds(1));  // belongs to no phase
      for (const char* phase : {"measure", "solve", "measure"}) {
        run.Report({phase, 0, 2, "layers"});
        clock_.Advance(absl::Seconds(2));
        run.Report({phase, 1, 2, "layers"});
        clock_.Advance(absl::Seconds(3));
      }
      return absl::DataLossError("lost");  // what failed has taken its time, too
    });
  };
  Process process(blobs_, clock_, {.workers = 1}, {{"Step", step}});
  process.WaitFor(process.Submit(Request("Step", "")));
  std::map<std::string, std::pair<uint64_t, double>> times;  // of a phase: count, sum
  for (const auto& family : process.metrics().operation_phase_duration.Collect()) {
    for (const auto& metric : family.metric) {
      ASSERT_THAT(metric.label, SizeIs(2));
      EXPECT_EQ(metric.label[1].value, "Step");
      times[metric.label[0].value] = {metric.histogram.sample_count, metric.histogram.sample_sum};
    }
  }
  EXPECT_THAT(times, UnorderedElementsAre(Pair("measure", Pair(2, DoubleEq(10))),
                                          Pair("solve", Pair(1, DoubleEq(5)))));
}

TEST_F(JobQueueTest, FinishesWhatItHasAcceptedWhenItDrains) {
  Process process(blobs_, clock_, {.workers = 1});
  const std::string running = process.Submit(Request("Block", "running", "id"));
  process.WaitUntilABlockRuns();
  const std::string queued = process.Submit(Request("Echo", "queued"));
  std::thread drain([&] { process.queue().Drain(absl::InfiniteDuration()); });
  absl::Status refused;
  while (refused.ok()) {  // until the drain has begun
    refused = process.queue().SubmitDone(Request("Echo", "x"), {}).status();
  }
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(NotesOf(refused).reason, "DRAINING");
  EXPECT_TRUE(NotesOf(refused).retry_after.has_value());
  EXPECT_THAT(process.queue().Submit(Request("Echo", "y")),
              StatusIs(absl::StatusCode::kUnavailable));
  // What was accepted is answered for.
  EXPECT_THAT(process.queue().Submit(Request("Block", "running", "id")), IsOk());
  EXPECT_OK(process.queue().Get(queued));
  process.ReleaseBlocks();
  drain.join();
  EXPECT_EQ(process.queue().Get(running)->state, State::kSucceeded);
  EXPECT_EQ(process.queue().Get(queued)->state, State::kSucceeded);
}

TEST_F(JobQueueTest, ForgetsTheOldestThatIsDone) {
  Process process(blobs_, clock_, {.workers = 1, .max_operations = 3});
  const std::string blocked = process.Submit(Request("Block", "running"));
  std::vector<std::string> ids = {blocked};
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const Operation done,
                         process.queue().SubmitDone(Request("Echo", "a"), {}));
    ids.push_back(done.id);
    EXPECT_LE(process.queue().List().size(), 3U);
  }
  std::vector<std::string> listed;
  for (const Operation& operation : process.queue().List()) listed.push_back(operation.id);
  EXPECT_THAT(listed, ElementsAre(ids[5], ids[4], blocked));  // newest first, the live one kept
  EXPECT_THAT(process.queue().Get(ids[1]),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(ids[1])));
  EXPECT_THAT(OperationStore(blobs_).ListAll(), IsOkAndHolds(SizeIs(3)));
  process.ReleaseBlocks();
}

TEST_F(JobQueueTest, DeletesOnlyWhatIsDone) {
  Process process(blobs_, clock_, {.workers = 1});
  const std::string id = process.Submit(Request("Block", "running"));
  EXPECT_THAT(process.queue().Delete(id),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(id)));
  process.ReleaseBlocks();
  process.WaitFor(id);
  EXPECT_OK(process.queue().Delete(id));
  EXPECT_THAT(process.queue().Delete(id), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(process.queue().List(), IsEmpty());
}

TEST_F(JobQueueTest, WritesEventsThatFoldToWhatItShows) {
  Process process(blobs_, clock_, {.workers = 2});
  std::vector<std::string> ids;
  for (int i = 0; i < 20; ++i) {
    ids.push_back(process.Submit(Request(i % 3 == 0   ? "Fail"
                                         : i % 3 == 1 ? "Block"
                                                      : "Echo",
                                         std::to_string(i))));
    if (i % 3 == 1) {
      EXPECT_OK(process.queue().Cancel(ids.back()));
    }
  }
  for (const std::string& id : ids) process.WaitFor(id);
  Process another(blobs_, clock_);
  for (const std::string& id : ids) {
    const Operation folded = another.Get(id);
    ASSERT_OK_AND_ASSIGN(const Operation shown, process.queue().Get(id));
    EXPECT_EQ(folded.state, shown.state);
    EXPECT_EQ(folded.result.bytes, shown.result.bytes);
    EXPECT_EQ(folded.error, shown.error);
    EXPECT_EQ(folded.request.request, shown.request.request);
    EXPECT_EQ(folded.cancel_requested, shown.cancel_requested);
  }
}

}  // namespace
}  // namespace secateur
