// What one process leaves of its operations, and the next takes up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "server/base/errors.h"
#include "server/jobs/durable_operation_store.h"
#include "server/jobs/job_queue.h"
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

// A server's life on `blobs`: jobs of method "Echo" return their request; those of "Block" run
// until they are cancelled.
class Process {
 public:
  Process(BlobStore& blobs, const Clock& clock, JobQueue::Options options = {.workers = 1})
      : store_(blobs),
        queue_(options,
               {{"Echo", [this](const auto& request) { return Echo(request); }},
                {"Block", [this](const auto&) { return Block(); }}},
               store_, clock, metrics_) {
    EXPECT_OK(queue_.Restore());
  }

  JobQueue& queue() { return queue_; }
  std::string Submit(OperationRequest request) {
    const auto operation = queue_.Submit(std::move(request));
    EXPECT_OK(operation);
    return operation.ok() ? operation->id : "";
  }
  Operation WaitFor(const std::string& id) {
    const auto done = std::make_shared<std::promise<Operation>>();
    EXPECT_OK(queue_.Observe(id, [done](const Operation& now) {
      if (IsDone(now.state)) done->set_value(now);
    }));
    return done->get_future().get();
  }
  // The requests of "Echo" in the order in which they ran.
  std::vector<std::string> ran() {
    MutexLock lock(mutex_);
    return ran_;
  }
  void WaitUntilABlockRuns() {
    while (!blocked_) std::this_thread::yield();
  }

 private:
  absl::StatusOr<Job> Echo(const OperationRequest& request) {
    return Job([this, bytes = request.request](RunContext&) -> absl::StatusOr<TypedBytes> {
      MutexLock lock(mutex_);
      ran_.push_back(bytes);
      return TypedBytes{"echo", bytes};
    });
  }
  absl::StatusOr<Job> Block() {
    return Job([this](RunContext& run) -> absl::StatusOr<TypedBytes> {
      blocked_ = true;
      while (!run.cancelled()) std::this_thread::yield();
      return run.CheckCancelled();
    });
  }

  Metrics metrics_{"test"};
  std::atomic<bool> blocked_{false};
  Mutex mutex_;
  std::vector<std::string> ran_ ABSL_GUARDED_BY(mutex_);
  DurableOperationStore store_;
  JobQueue queue_;
};

class RestoreTest : public testing::Test {
 protected:
  // Events of an operation as a process that was killed leaves them.
  void Leave(const std::string& id, const OperationRequest& request,
             const std::vector<OperationEvent::Kind>& kinds) {
    DurableOperationStore store(blobs_);
    ASSERT_OK(store.Load());
    ASSERT_OK(store.Append(
        id, {.kind = OperationEvent::Kind::kCreated, .time = clock_.Now(), .request = request}));
    for (const OperationEvent::Kind kind : kinds) {
      ASSERT_OK(store.Append(id, {.kind = kind, .time = clock_.Now()}));
    }
    clock_.Advance(absl::Seconds(1));
  }

  static constexpr auto kStarted = OperationEvent::Kind::kStarted;
  static constexpr auto kSuspended = OperationEvent::Kind::kSuspended;
  static constexpr auto kCancelRequested = OperationEvent::Kind::kCancelRequested;

  MemoryStore blobs_;
  FakeClock clock_;
};

TEST_F(RestoreTest, WhatIsDoneCanStillBeAskedFor) {
  std::string id;
  {
    Process first(blobs_, clock_);
    id = first.Submit(Request("Echo", "a", "mine"));
    first.WaitFor(id);
  }
  Process second(blobs_, clock_);
  ASSERT_OK_AND_ASSIGN(const Operation operation, second.queue().Get(id));
  EXPECT_EQ(operation.state, State::kSucceeded);
  EXPECT_EQ(operation.result.bytes, "a");
  // The same request again is the same operation, another one under its id is refused.
  EXPECT_EQ(second.Submit(Request("Echo", "a", "mine")), id);
  const absl::Status reused = second.queue().Submit(Request("Echo", "b", "mine")).status();
  EXPECT_EQ(NotesOf(reused).reason, "REQUEST_ID_REUSED");
  EXPECT_OK(second.queue().Delete(id));
  EXPECT_THAT(Process(blobs_, clock_).queue().List(), IsEmpty());
}

TEST_F(RestoreTest, WhatWasNotDoneIsDoneInItsOrder) {
  Leave("o1", Request("Echo", "first"), {kStarted});
  Leave("o2", Request("Echo", "second"), {});
  Process process(blobs_, clock_);
  EXPECT_EQ(process.queue().Get("o1")->state, State::kQueued);  // nobody is at it
  EXPECT_EQ(process.queue().Get("o2")->state, State::kQueued);
  const std::string fresh = process.Submit(Request("Echo", "new"));
  process.WaitFor(fresh);  // not behind those that wait
  EXPECT_EQ(process.queue().Get("o1")->state, State::kQueued);
  process.queue().Resume();
  process.queue().Resume();
  EXPECT_EQ(process.WaitFor("o1").result.bytes, "first");
  EXPECT_EQ(process.WaitFor("o2").result.bytes, "second");
  EXPECT_THAT(process.ran(), ElementsAre("new", "first", "second"));
}

TEST_F(RestoreTest, WhatWasAcceptedGoesOnHoweverFewMayWait) {
  for (const char* id : {"o1", "o2", "o3"}) Leave(id, Request("Echo", id), {});
  Process process(blobs_, clock_, {.workers = 1, .max_queued = 1});
  process.queue().Resume();
  for (const char* id : {"o1", "o2", "o3"}) EXPECT_EQ(process.WaitFor(id).result.bytes, id);
}

// The models that it needs may never load: SIGTERM then is not to wait for it, and is no crash of
// it, nor a good start.
TEST_F(RestoreTest, ADrainDoesNotWaitForWhatNobodyStarts) {
  Leave("o1", Request("Echo", "a"), {kStarted, kStarted});
  {
    Process process(blobs_, clock_);
    process.queue().Drain(absl::InfiniteDuration());
    EXPECT_TRUE(process.queue().Get("o1")->suspended);
    EXPECT_OK(process.queue().Cancel("o1"));
    process.queue().Drain(absl::InfiniteDuration());
  }
  EXPECT_EQ(Process(blobs_, clock_).queue().Get("o1")->state, State::kCancelled);
  Leave("o2", Request("Echo", "a"), {kStarted, kStarted});
  {
    Process process(blobs_, clock_);
  }
  EXPECT_EQ(Process(blobs_, clock_).queue().Get("o2")->starts, 2);
}

// A store that takes nothing for a while.
class FullStore final : public BlobStore {
 public:
  const std::string& uri() const override { return store_.uri(); }
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override {
    if (full) return absl::ResourceExhaustedError("no space");
    return store_.Create(key);
  }
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset,
                                   int64_t length) override {
    return store_.Read(key, offset, length);
  }
  absl::StatusOr<BlobInfo> Head(const std::string& key) override { return store_.Head(key); }
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override {
    return store_.List(prefix, start_after, limit);
  }
  absl::Status Delete(const std::string& key) override { return store_.Delete(key); }
  std::optional<std::string> LocalPath(const std::string&) override { return std::nullopt; }
  absl::Status Check() override { return absl::OkStatus(); }

  std::atomic<bool> full{false};

 private:
  MemoryStore store_;
};

TEST_F(RestoreTest, AnEndThatTheStoreDidNotTakeIsWrittenLater) {
  FullStore blobs;
  std::string id;
  {
    Process process(blobs, clock_);
    id = process.Submit(Request("Block", ""));
    process.WaitUntilABlockRuns();
    blobs.full = true;
    process.queue().Cancel(id).IgnoreError();
    EXPECT_EQ(process.WaitFor(id).state, State::kCancelled);
    EXPECT_THAT(process.queue().Submit(Request("Echo", "refused")),
                StatusIs(absl::StatusCode::kResourceExhausted));
    blobs.full = false;
    process.WaitFor(process.Submit(Request("Echo", "next")));
  }
  EXPECT_EQ(Process(blobs, clock_).queue().Get(id)->state, State::kCancelled);
}

TEST_F(RestoreTest, ACancelThatWasAskedForIsKept) {
  Leave("o1", Request("Block", ""), {kStarted, kCancelRequested});
  Leave("o2", Request("Block", ""), {});
  Process process(blobs_, clock_);
  ASSERT_OK_AND_ASSIGN(const Operation operation, process.queue().Get("o1"));
  EXPECT_EQ(operation.state, State::kCancelled);
  EXPECT_THAT(operation.error, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(process.queue().Cancel("o2"));  // before it goes on
  EXPECT_EQ(process.queue().Get("o2")->state, State::kCancelled);
  process.queue().Resume();
}

TEST_F(RestoreTest, WhatTakesTheServerDownEachTimeIsNotTriedForEver) {
  Leave("o1", Request("Echo", "a"), {kStarted, kStarted});
  Leave("o2", Request("Echo", "a"), {kStarted, kStarted, kStarted});
  Leave("o3", Request("Echo", "a"), {kStarted, kStarted, kSuspended, kStarted});
  Leave("o4", Request("Gone", "a"), {});
  Process process(blobs_, clock_);
  ASSERT_OK_AND_ASSIGN(const Operation poison, process.queue().Get("o2"));
  EXPECT_EQ(poison.state, State::kFailed);
  EXPECT_THAT(poison.error, StatusIs(absl::StatusCode::kInternal, HasSubstr("3 times")));
  EXPECT_THAT(process.queue().Get("o4")->error,
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("Gone")));
  process.queue().Resume();
  EXPECT_EQ(process.WaitFor("o1").state, State::kSucceeded);
  EXPECT_EQ(process.WaitFor("o3").state, State::kSucceeded);
}

TEST_F(RestoreTest, ADrainLeavesWhatIsNotDoneToTheNextProcess) {
  std::string running, queued;
  {
    Process first(blobs_, clock_);
    running = first.Submit(Request("Block", "running"));
    queued = first.Submit(Request("Echo", "queued"));
    first.WaitUntilABlockRuns();
    std::vector<Operation> seen;
    ASSERT_OK(
        first.queue().Observe(running, [&seen](const Operation& now) { seen.push_back(now); }));
    first.queue().Drain(absl::ZeroDuration());
    ASSERT_FALSE(seen.empty());
    EXPECT_TRUE(seen.back().suspended);
    EXPECT_EQ(seen.back().state, State::kQueued);
    EXPECT_FALSE(IsDone(first.queue().Get(queued)->state));
  }
  Process second(blobs_, clock_);
  EXPECT_EQ(second.queue().Get(running)->starts, 0);  // it did not end the process
  second.queue().Resume();
  second.WaitUntilABlockRuns();
  EXPECT_OK(second.queue().Cancel(running));
  EXPECT_EQ(second.WaitFor(queued).result.bytes, "queued");
}

TEST_F(RestoreTest, ADeletedOperationLeavesNothingThatIsStillToBeWritten) {
  FullStore blobs;
  {
    Process process(blobs, clock_);
    const std::string id = process.Submit(Request("Block", ""));
    process.WaitUntilABlockRuns();
    blobs.full = true;
    EXPECT_OK(process.queue().Cancel(id));
    process.WaitFor(id);
    ASSERT_OK(process.queue().Delete(id));
    blobs.full = false;
    const std::string next = process.Submit(Request("Echo", "next"));
    process.WaitFor(next);
    ASSERT_OK(process.queue().Delete(next));
  }
  EXPECT_THAT(blobs.List("", "", 10), IsOkAndHolds(IsEmpty()));
}

TEST_F(RestoreTest, WhatHasBeenDoneForTooLongIsForgotten) {
  std::string old_id;
  {
    Process first(blobs_, clock_);
    old_id = first.Submit(Request("Echo", "a"));
    first.WaitFor(old_id);
    clock_.Advance(absl::Hours(24 * 31));
    const std::string id = first.Submit(Request("Echo", "b"));
    first.WaitFor(id);
    EXPECT_THAT(first.queue().Get(old_id), StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(first.queue().List(), SizeIs(1));
  }
  clock_.Advance(absl::Hours(24 * 31));
  EXPECT_THAT(Process(blobs_, clock_).queue().List(), IsEmpty());
  EXPECT_THAT(DurableOperationStore(blobs_).Load(), IsOkAndHolds(IsEmpty()));
}

}  // namespace
}  // namespace secateur
