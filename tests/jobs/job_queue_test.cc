#include "server/jobs/job_queue.h"

#include <algorithm>
#include <future>
#include <set>

#include "server/base/errors.h"
#include "server/storage/memory_store.h"
#include "tests/jobs/request.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using State = OperationState;

// Jobs of method "Echo" return their request, those of "Fail" an error, those of "Block" wait until
// they are released or cancelled.
class JobQueueTest : public testing::Test {
 protected:
  std::unique_ptr<JobQueue> Queue(JobQueue::Options options) {
    const auto echo = [this](const OperationRequest& request) -> absl::StatusOr<Job> {
      return Job([this, bytes = request.request](RunContext&) -> absl::StatusOr<TypedBytes> {
        MutexLock lock(mutex_);
        ran_.push_back(bytes);
        return TypedBytes{"echo", bytes};
      });
    };
    const auto fail = [](const OperationRequest& request) -> absl::StatusOr<Job> {
      return absl::DataLossError(request.request);
    };
    const auto block = [this](const OperationRequest& request) -> absl::StatusOr<Job> {
      return Job([this, bytes = request.request](RunContext& run) { return Block(bytes, run); });
    };
    return Queue(options, {{"Echo", echo}, {"Fail", fail}, {"Block", block}});
  }
  std::unique_ptr<JobQueue> Queue(JobQueue::Options options,
                                  std::map<std::string, JobFactory> factories) {
    options.poll_every = absl::ZeroDuration();
    auto queue =
        std::make_unique<JobQueue>(options, std::move(factories), blobs_, clock_, metrics_);
    EXPECT_OK(queue->Restore());
    return queue;
  }
  // What the store has of an operation.
  Operation Stored(const std::string& id) {
    OperationStore store(blobs_);
    const auto keys = store.KeysOf(id);
    EXPECT_OK(keys);
    const auto events = store.Read(id, *keys);
    EXPECT_OK(events);
    const auto operation = Fold(id, *events);
    EXPECT_OK(operation);
    return operation.ok() ? *operation : Operation{};
  }

  absl::StatusOr<TypedBytes> Block(const std::string& bytes, RunContext& run) {
    MutexLock lock(mutex_);
    ran_.push_back(bytes);
    changed_.NotifyAll();
    while (!released_.contains(bytes)) {
      const absl::Status cancelled = run.CheckCancelled();
      if (!cancelled.ok()) return cancelled;
      changed_.WaitFor(mutex_, std::chrono::milliseconds(5));
    }
    return TypedBytes{"block", bytes};
  }
  void WaitUntilRan(const std::string& bytes) {
    MutexLock lock(mutex_);
    while (std::find(ran_.begin(), ran_.end(), bytes) == ran_.end()) changed_.Wait(mutex_);
  }
  void Release(const std::string& bytes) {
    MutexLock lock(mutex_);
    released_.insert(bytes);
    changed_.NotifyAll();
  }
  std::vector<std::string> Ran() {
    MutexLock lock(mutex_);
    return ran_;
  }
  static std::string Start(JobQueue& queue, OperationRequest request) {
    const auto operation = queue.Submit(std::move(request));
    EXPECT_OK(operation);
    return operation.ok() ? operation->id : "";
  }
  static Operation WaitFor(JobQueue& queue, const std::string& id) {
    const auto done = std::make_shared<std::promise<Operation>>();
    EXPECT_OK(queue.Observe(id, [done](const Operation& now) {
      if (IsDone(now.state)) done->set_value(now);
    }));
    return done->get_future().get();
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> ran_;
  std::set<std::string> released_;
  FakeClock clock_;
  MemoryStore blobs_{clock_};
  Metrics metrics_{"test"};
};

TEST_F(JobQueueTest, RunsJobsInTheOrderInWhichTheyCameOnOneWorker) {
  const auto queue = Queue({.workers = 1});
  std::vector<std::string> expected, ids;
  for (int i = 0; i < 50; ++i) {
    expected.push_back(std::to_string(i));
    ids.push_back(Start(*queue, Request("Echo", expected.back())));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Operation operation = WaitFor(*queue, ids[i]);
    EXPECT_EQ(operation.state, State::kSucceeded);
    EXPECT_EQ(operation.result.bytes, expected[i]);
  }
  EXPECT_EQ(Ran(), expected);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), ids.size());
}

TEST_F(JobQueueTest, RunsAsManyJobsAtOnceAsItHasWorkers) {
  const auto queue = Queue({.workers = 3});
  std::vector<std::string> ids;
  for (const char* name : {"a", "b", "c"}) ids.push_back(Start(*queue, Request("Block", name)));
  for (const char* name : {"a", "b", "c"}) WaitUntilRan(name);  // or this would wait for ever
  for (const char* name : {"c", "a", "b"}) Release(name);
  for (const std::string& id : ids) EXPECT_EQ(WaitFor(*queue, id).state, State::kSucceeded);
}

TEST_F(JobQueueTest, RefusesMoreThanMayWaitAndSaysWhenToComeBack) {
  const auto queue = Queue({.workers = 1, .max_queued = 2, .retry_after = absl::Seconds(7)});
  Start(*queue, Request("Block", "running"));
  WaitUntilRan("running");
  Start(*queue, Request("Echo", "1"));
  const std::string second = Start(*queue, Request("Echo", "2"));
  const absl::Status full = queue->Submit(Request("Echo", "3")).status();
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted,
                             HasSubstr("3 operations wait or run, of 3")));
  EXPECT_EQ(NotesOf(full).reason, "QUEUE_FULL");
  EXPECT_EQ(NotesOf(full).retry_after, absl::Seconds(7));
  EXPECT_THAT(queue->List(), SizeIs(3));
  EXPECT_OK(queue->Cancel(second));  // makes room
  EXPECT_OK(queue->Submit(Request("Echo", "3")));
  Release("running");
}

// A client that waits for the end finds the place free, whatever the worker is still about.
TEST_F(JobQueueTest, FreesThePlaceBeforeTheEndIsSeen) {
  const auto queue = Queue({.workers = 4, .max_per_tenant = 1});
  for (int i = 0; i < 300; ++i) {
    const Operation operation =
        WaitFor(*queue, Start(*queue, Request(i % 2 == 0 ? "Echo" : "Fail", "x")));
    EXPECT_TRUE(IsDone(operation.state));
  }
  const std::string running = Start(*queue, Request("Block", "running"));
  EXPECT_EQ(NotesOf(queue->Submit(Request("Echo", "y")).status()).reason, "TENANT_QUOTA");
  ASSERT_OK(queue->Cancel(running));
  WaitFor(*queue, running);
  EXPECT_OK(queue->Submit(Request("Echo", "y")));
  EXPECT_THAT(metrics_.Scrape(),
              HasSubstr("secateur_operations_refused_total{reason=\"TENANT_QUOTA\","
                        "type=\"Echo\"} 1"));
}

TEST_F(JobQueueTest, CountsWhatOperationsNeedFromTheirAcceptanceToTheirEnd) {
  const auto queue = Queue({.workers = 1, .max_memory_bytes = 10, .needs = [](const auto& request) {
                              return JobNeeds{.memory_bytes = std::ssize(request.request)};
                            }});
  const auto reason = [&queue](const std::string& request) {
    return NotesOf(queue->Submit(Request("Echo", request)).status()).reason;
  };
  EXPECT_EQ(reason("eleven bytes"), "TOO_LARGE");
  const std::string waits = Start(*queue, Request("Block", "9 letters"));
  WaitUntilRan("9 letters");
  EXPECT_EQ(reason("ten letter"), "");  // one at a time
  Release("9 letters");
  WaitFor(*queue, waits);
}

TEST_F(JobQueueTest, CancelsAQueuedJobAtOnceAndNeverRunsIt) {
  const auto queue = Queue({.workers = 1});
  Start(*queue, Request("Block", "running"));
  WaitUntilRan("running");
  const std::string queued = Start(*queue, Request("Echo", "queued"));
  const std::string last = Start(*queue, Request("Echo", "last"));
  ASSERT_OK(queue->Cancel(queued));
  ASSERT_OK_AND_ASSIGN(const Operation operation, queue->Get(queued));
  EXPECT_EQ(operation.state, State::kCancelled);
  EXPECT_EQ(operation.error.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(operation.start_time, absl::InfinitePast());
  Release("running");
  WaitFor(*queue, last);
  EXPECT_THAT(Ran(), ElementsAre("running", "last"));
}

// The only worker is busy for ever: no look at what comes out of the queue would help.
TEST_F(JobQueueTest, EndsWhatWaitsTooLongByATimer) {
  const auto queue =
      Queue({.workers = 1, .max_queue_time = absl::Hours(1), .lease = absl::Hours(24)});
  const std::string running = Start(*queue, Request("Block", "running"));
  WaitUntilRan("running");
  const std::string waiting = Start(*queue, Request("Echo", "waiting"));
  const auto ended = std::make_shared<std::promise<Operation>>();
  ASSERT_OK(queue->Observe(waiting, [ended](const Operation& now) {
    if (IsDone(now.state)) ended->set_value(now);
  }));
  clock_.Advance(absl::Hours(1));
  queue->EndOverdue();
  EXPECT_EQ(queue->Get(waiting)->state, State::kQueued);  // not before it has waited longer
  const std::string later = Start(*queue, Request("Echo", "later"));

  clock_.Advance(absl::Seconds(90));
  auto end = ended->get_future();
  ASSERT_EQ(end.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  const Operation operation = end.get();
  EXPECT_EQ(operation.state, State::kFailed);
  EXPECT_THAT(operation.error,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("3690 s"), HasSubstr("--max-queue-seconds"))));
  EXPECT_EQ(NotesOf(operation.error).reason, "QUEUE_DEADLINE");
  EXPECT_TRUE(NotesOf(operation.error).retry_after.has_value());
  EXPECT_EQ(operation.start_time, absl::InfinitePast());
  EXPECT_EQ(Stored(waiting).state, State::kFailed);
  EXPECT_EQ(Stored(waiting).error, operation.error);

  EXPECT_EQ(queue->Get(running)->state, State::kRunning);  // which waits for nobody
  Release("running");
  EXPECT_EQ(WaitFor(*queue, later).state, State::kSucceeded);
  EXPECT_THAT(Ran(), ElementsAre("running", "later"));
  queue->Drain(absl::InfiniteDuration());
  const std::string scraped = metrics_.Scrape();
  EXPECT_THAT(scraped, HasSubstr("secateur_operations_refused_total{reason=\"QUEUE_DEADLINE\","
                                 "type=\"Echo\"} 1"));
  EXPECT_THAT(scraped, HasSubstr("secateur_operations_total{state=\"failed\",type=\"Echo\"} 1"));
}

// Whatever they race for it: it ends once, and what ran did not end as overdue.
TEST_F(JobQueueTest, EndsWhatIsOverdueOnceWhoeverTakesIt) {
  const auto queue = Queue({.workers = 2,
                            .max_queued = 200,
                            .max_queue_time = absl::Minutes(1),
                            .lease = absl::Hours(24)});
  std::vector<std::string> ids;
  for (int i = 0; i < 200; ++i) {
    ids.push_back(Start(*queue, Request("Echo", std::to_string(i))));
    clock_.Advance(absl::Seconds(7));
    if (i % 10 == 0) queue->EndOverdue();
  }
  size_t ran = 0;
  for (const std::string& id : ids) {
    const Operation operation = WaitFor(*queue, id);
    if (operation.state == State::kSucceeded) {
      ++ran;
    } else {
      EXPECT_EQ(NotesOf(operation.error).reason, "QUEUE_DEADLINE");
      EXPECT_EQ(operation.starts, 0);
    }
    EXPECT_EQ(Stored(id).state, operation.state);
  }
  EXPECT_EQ(Ran().size(), ran);
}

TEST_F(JobQueueTest, CancelsARunningJobThroughItsContext) {
  const auto queue = Queue({.workers = 1});
  const std::string id = Start(*queue, Request("Block", "running"));
  WaitUntilRan("running");
  ASSERT_OK(queue->Cancel(id));
  ASSERT_OK(queue->Cancel(id));
  const Operation operation = WaitFor(*queue, id);
  EXPECT_EQ(operation.state, State::kCancelled);
  EXPECT_TRUE(operation.cancel_requested);
  EXPECT_OK(queue->Cancel(id));  // done: nothing to do
  EXPECT_THAT(queue->Cancel("o0"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("o0")));
}

TEST_F(JobQueueTest, KeepsTheErrorOfAJobThatFails) {
  const auto queue = Queue({});
  const Operation operation = WaitFor(*queue, Start(*queue, Request("Fail", "lost")));
  EXPECT_EQ(operation.state, State::kFailed);
  EXPECT_EQ(operation.error, absl::DataLossError("lost"));
  EXPECT_THAT(queue->Submit(Request("Unknown", "")), StatusIs(absl::StatusCode::kInternal));
}

TEST_F(JobQueueTest, KnowsARequestAgainByItsId) {
  const auto queue = Queue({});
  const std::string id = Start(*queue, Request("Echo", "a", "mine"));
  EXPECT_EQ(Start(*queue, Request("Echo", "a", "mine")), id);
  WaitFor(*queue, id);
  EXPECT_EQ(Start(*queue, Request("Echo", "a", "mine")), id);
  EXPECT_THAT(Ran(), ElementsAre("a"));
  ASSERT_OK_AND_ASSIGN(const Operation known,
                       queue->SubmitDone(Request("Echo", "a", "mine"), {"other", "result"}));
  EXPECT_EQ(known.id, id);
  EXPECT_EQ(known.result.bytes, "a");
  const absl::Status reused = queue->Submit(Request("Echo", "b", "mine")).status();
  EXPECT_THAT(reused, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("mine")));
  EXPECT_EQ(NotesOf(reused).reason, "REQUEST_ID_REUSED");
  EXPECT_EQ(NotesOf(reused).field, "request_id");
  EXPECT_NE(Start(*queue, Request("Fail", "a", "mine")), id);  // another method
  // The id of the operation follows from the request: another server gives the same.
  EXPECT_EQ(Start(*Queue({}), Request("Echo", "a", "mine")), id);
}

TEST_F(JobQueueTest, TakesAResultThatIsThereAlready) {
  const auto queue = Queue({});
  ASSERT_OK_AND_ASSIGN(const Operation operation,
                       queue->SubmitDone(Request("Echo", "a"), {"type", "result"}));
  EXPECT_EQ(operation.state, State::kSucceeded);
  EXPECT_EQ(operation.result.bytes, "result");
  EXPECT_EQ(WaitFor(*queue, operation.id).result.bytes, "result");
  EXPECT_THAT(Ran(), IsEmpty());
}

TEST_F(JobQueueTest, TellsObserversThePresentStateEachChangeAndTheEnd) {
  const auto queue = Queue({.workers = 1});
  Start(*queue, Request("Block", "first"));
  const std::string id = Start(*queue, Request("Block", "second"));
  Mutex mutex;
  std::vector<State> seen;
  int64_t dropped = 0;
  ASSERT_OK(queue->Observe(id, [&](const Operation& now) {
    MutexLock lock(mutex);
    seen.push_back(now.state);
  }));
  ASSERT_OK_AND_ASSIGN(const int64_t ticket,
                       queue->Observe(id, [&](const Operation&) { ++dropped; }));
  queue->Unobserve(ticket);
  queue->Unobserve(ticket);
  EXPECT_EQ(dropped, 1);  // the state at once, nothing after it left
  Release("first");
  Release("second");
  WaitFor(*queue, id);
  MutexLock lock(mutex);
  EXPECT_THAT(seen, ElementsAre(State::kQueued, State::kRunning, State::kSucceeded));
  EXPECT_EQ(dropped, 1);
  EXPECT_THAT(queue->Observe("o0", [](const Operation&) {}),
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
  const auto block = [this](const OperationRequest&) -> absl::StatusOr<Job> {
    return Job([this](RunContext& run) { return Block("first", run); });
  };
  const auto made = Queue({.workers = 1}, {{"Step", step}, {"Block", block}});
  JobQueue& queue = *made;
  Start(queue, Request("Block", ""));
  const std::string id = Start(queue, Request("Step", ""));
  ASSERT_OK(queue.Observe(id, [&seen](const Operation& now) {
    if (!now.progress.phase.empty()) seen.push_back(now.progress);
  }));
  Release("first");
  WaitFor(queue, id);
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

TEST_F(JobQueueTest, FinishesWhatItHasAcceptedWhenItDrains) {
  const auto queue = Queue({.workers = 1});
  const std::string running = Start(*queue, Request("Block", "running", "id"));
  WaitUntilRan("running");
  const std::string queued = Start(*queue, Request("Echo", "queued"));
  std::thread drain([&] { queue->Drain(absl::InfiniteDuration()); });
  absl::Status refused;
  while (refused.ok()) {  // until the drain has begun
    refused = queue->SubmitDone(Request("Echo", "x"), {}).status();
  }
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(NotesOf(refused).reason, "DRAINING");
  EXPECT_TRUE(NotesOf(refused).retry_after.has_value());
  EXPECT_THAT(queue->Submit(Request("Echo", "y")), StatusIs(absl::StatusCode::kUnavailable));
  // What was accepted is answered for.
  EXPECT_THAT(queue->Submit(Request("Block", "running", "id")), IsOk());
  EXPECT_OK(queue->Get(queued));
  Release("running");
  drain.join();
  EXPECT_EQ(queue->Get(running)->state, State::kSucceeded);
  EXPECT_EQ(queue->Get(queued)->state, State::kSucceeded);
}

TEST_F(JobQueueTest, ForgetsTheOldestThatIsDone) {
  const auto queue = Queue({.workers = 1, .max_operations = 3});
  const std::string blocked = Start(*queue, Request("Block", "running"));
  std::vector<std::string> ids = {blocked};
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const Operation done, queue->SubmitDone(Request("Echo", "a"), {}));
    ids.push_back(done.id);
    EXPECT_LE(queue->List().size(), 3U);
  }
  std::vector<std::string> listed;
  for (const Operation& operation : queue->List()) listed.push_back(operation.id);
  EXPECT_THAT(listed, ElementsAre(ids[5], ids[4], blocked));  // newest first, the live one kept
  EXPECT_THAT(queue->Get(ids[1]), StatusIs(absl::StatusCode::kNotFound, HasSubstr(ids[1])));
  EXPECT_THAT(OperationStore(blobs_).ListAll(), IsOkAndHolds(SizeIs(3)));
  Release("running");
}

TEST_F(JobQueueTest, DeletesOnlyWhatIsDone) {
  const auto queue = Queue({.workers = 1});
  const std::string id = Start(*queue, Request("Block", "running"));
  EXPECT_THAT(queue->Delete(id), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(id)));
  Release("running");
  WaitFor(*queue, id);
  EXPECT_OK(queue->Delete(id));
  EXPECT_THAT(queue->Delete(id), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(queue->List(), IsEmpty());
}

TEST_F(JobQueueTest, WritesEventsThatFoldToWhatItShows) {
  const auto queue = Queue({.workers = 2});
  std::vector<std::string> ids;
  for (int i = 0; i < 20; ++i) {
    ids.push_back(Start(*queue, Request(i % 3 == 0   ? "Fail"
                                        : i % 3 == 1 ? "Block"
                                                     : "Echo",
                                        std::to_string(i))));
    if (i % 3 == 1) {
      EXPECT_OK(queue->Cancel(ids.back()));
    }
  }
  for (const std::string& id : ids) WaitFor(*queue, id);
  for (const std::string& id : ids) {
    const Operation folded = Stored(id);
    ASSERT_OK_AND_ASSIGN(const Operation shown, queue->Get(id));
    EXPECT_EQ(folded.state, shown.state);
    EXPECT_EQ(folded.result.bytes, shown.result.bytes);
    EXPECT_EQ(folded.error, shown.error);
    EXPECT_EQ(folded.request.request, shown.request.request);
    EXPECT_EQ(folded.cancel_requested, shown.cancel_requested);
  }
}

}  // namespace
}  // namespace secateur
