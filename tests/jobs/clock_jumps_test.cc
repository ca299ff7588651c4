// Clocks of processes that jump, as they do when they are set right: nothing is lost or repeated,
// nobody is held for dead, and no duration is negative.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "server/base/errors.h"
#include "tests/jobs/process.h"

namespace secateur {
namespace {

using testing::SizeIs;
using State = OperationState;

class ClockJumps : public testing::TestWithParam<int> {
 protected:
  static absl::Duration Jump() { return absl::Hours(GetParam()); }
  // Time that all clocks agree on.
  void Pass(absl::Duration time) {
    store_clock_.Advance(time);
    clock_.Advance(time);
  }

  FakeClock store_clock_, clock_;
  MemoryStore blobs_{store_clock_};
};

// Neither the one whose clock jumps nor the other is held for dead.
TEST_P(ClockJumps, LeaveAProcessItsLeaseAndItsWork) {
  Process a(blobs_, clock_), b(blobs_, store_clock_);
  Process* const processes[] = {&a, &b};
  std::string ids[2];
  for (const int i : {0, 1}) {
    processes[i]->Resume();
    ids[i] = processes[i]->Submit(Request("Block", "work"));
    processes[i]->WaitUntilABlockRuns();
  }
  clock_.Advance(Jump());
  for (int i = 0; i < 8; ++i) {  // more than twice the time of a lease
    a.queue().Poll();
    b.queue().Poll();
    ASSERT_EQ(b.Get(ids[0]).owner, a.queue().owner());
    ASSERT_EQ(a.Get(ids[1]).owner, b.queue().owner());
    Pass(absl::Seconds(20));
  }
  for (const int i : {0, 1}) {
    processes[i]->ReleaseBlocks();
    processes[i]->queue().Drain(absl::InfiniteDuration());
    EXPECT_EQ(processes[i]->Get(ids[i]).state, State::kSucceeded);
    EXPECT_THAT(processes[i]->ran(), SizeIs(1));
  }
}

TEST_P(ClockJumps, HideNoOperationOfOthers) {
  Process a(blobs_, clock_), b(blobs_, store_clock_);
  a.queue().Poll();
  clock_.Advance(Jump());
  const std::string id = b.Submit(Request("Echo", "b"));
  EXPECT_THAT(a.queue().List(), SizeIs(1));
  b.WaitFor(id);
  const std::string another = b.Submit(Request("Echo", "c"));
  clock_.Advance(Jump());
  a.queue().Poll();
  EXPECT_EQ(a.Get(another).request.request, "c");
}

TEST_P(ClockJumps, MakeNoDurationNegativeAndHideNoProgress) {
  std::atomic<bool> jumped{false};
  const auto step = [&](const OperationRequest&) -> absl::StatusOr<Job> {
    return Job([&](RunContext& run) -> absl::StatusOr<TypedBytes> {
      while (!jumped) std::this_thread::yield();
      run.Report({"profile", 1, 10, "tokens"});
      clock_.Advance(Jump());
      run.Report({"profile", 2, 10, "tokens"});
      return TypedBytes{};
    });
  };
  Process process(blobs_, clock_, {.workers = 1}, {{"Step", step}});
  const std::string first = process.Submit(Request("Step", "1"));
  const std::string second = process.Submit(Request("Step", "2"));  // waits while time jumps
  std::vector<int64_t> seen;
  ASSERT_OK(process.queue().Observe(first, [&seen](const Operation& now) {
    EXPECT_GE(now.progress.rate, 0);
    EXPECT_GE(now.progress.eta, absl::ZeroDuration());
    if (now.state == State::kRunning) seen.push_back(now.progress.done);
  }));
  jumped = true;
  process.queue().Drain(absl::InfiniteDuration());
  for (const std::string& id : {first, second}) {
    const Operation done = process.Get(id);
    EXPECT_EQ(done.state, State::kSucceeded);
    EXPECT_GE(done.start_time, done.create_time);
    EXPECT_GE(done.end_time, done.start_time);
  }
  EXPECT_EQ(seen.back(), 2);
  const Metrics& metrics = process.metrics();
  EXPECT_GE(metrics.job_queue_wait.Collect().histogram.sample_sum, 0);
  for (const auto* durations : {&metrics.operation_duration, &metrics.operation_phase_duration}) {
    EXPECT_FALSE(durations->Collect().empty());
    for (const auto& family : durations->Collect()) {
      for (const auto& metric : family.metric) EXPECT_GE(metric.histogram.sample_sum, 0);
    }
  }
}

TEST_P(ClockJumps, ForgetNothingThatIsToBeKept) {
  std::string done, waiting;
  {
    Process a(blobs_, clock_);
    done = a.Submit(Request("Echo", "done", "id"));
    a.WaitFor(done);
    clock_.Advance(Jump());
    a.queue().Poll();
    EXPECT_EQ(a.Get(done).state, State::kSucceeded);
    a.Submit(Request("Block", "blocks"));
    a.WaitUntilABlockRuns();
    waiting = a.Submit(Request("Echo", "waits"));
    clock_.Advance(Jump());
    a.queue().Drain(absl::ZeroDuration());
  }
  Process b(blobs_, clock_);
  b.Resume();
  EXPECT_EQ(b.Submit(Request("Echo", "done", "id")), done);
  EXPECT_EQ(b.Get(done).state, State::kSucceeded);  // and is not done again
  b.ReleaseBlocks();
  EXPECT_EQ(b.WaitFor(waiting).result.bytes, "waits");
}

TEST_P(ClockJumps, DoNotKeepADrainFromEnding) {
  Process a(blobs_, clock_);
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  std::atomic<bool> ended{false};
  std::thread drain([&] {
    a.queue().Drain(absl::Seconds(10));
    ended = true;
  });
  while (a.queue().SubmitDone(Request("Echo", "x"), {}).ok()) {  // until the drain has begun
  }
  clock_.Advance(Jump());
  for (int i = 0; i < 5000 && !ended; ++i) {
    clock_.Advance(absl::Seconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(ended);
  if (!ended) a.ReleaseBlocks();
  drain.join();
  EXPECT_TRUE(a.Get(id).suspended);
}

INSTANTIATE_TEST_SUITE_P(OfADay, ClockJumps, testing::Values(-24, 24),
                         [](const auto& hours) { return hours.param < 0 ? "Back" : "Ahead"; });

}  // namespace
}  // namespace secateur
