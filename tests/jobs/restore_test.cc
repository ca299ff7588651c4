// What one process leaves of its operations, and the next takes up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "server/base/errors.h"
#include "server/base/strings.h"
#include "tests/jobs/process.h"
#include "tests/support/other_store.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using State = OperationState;

class RestoreTest : public testing::Test {
 protected:
  // Events of an operation as processes that were killed leave them: each start after the first is
  // another process's.
  void Leave(const std::string& id, const OperationRequest& request,
             const std::vector<OperationEvent::Kind>& kinds) {
    OperationStore store(blobs_);
    EventKey key{1, "00000000000000a1", 0};
    const auto put = [&](OperationEvent event) {
      ++key.number;
      event.time = clock_.Now();
      ASSERT_OK(store.Put(id, {key, event}));
    };
    put({.kind = OperationEvent::Kind::kCreated, .request = request});
    bool started = false;
    for (const OperationEvent::Kind kind : kinds) {
      if (kind == kStarted && std::exchange(started, true)) {
        key = {key.epoch + 1, key.owner, 0};
        put({.kind = OperationEvent::Kind::kAdopted});
      }
      put({.kind = kind});
    }
    clock_.Advance(absl::Seconds(1));
  }

  static constexpr auto kStarted = OperationEvent::Kind::kStarted;
  static constexpr auto kSuspended = OperationEvent::Kind::kSuspended;
  static constexpr auto kCancelRequested = OperationEvent::Kind::kCancelRequested;

  FakeClock clock_;
  MemoryStore blobs_{clock_};
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
  process.Resume();
  process.Resume();
  EXPECT_EQ(process.WaitFor("o1").result.bytes, "first");
  EXPECT_EQ(process.WaitFor("o2").result.bytes, "second");
  EXPECT_THAT(process.ran(), ElementsAre("new", "first", "second"));
}

// Each listing is a call to a bucket, and a pod waits for all of them when it starts.
TEST_F(RestoreTest, ListsNoMoreOftenForManyOperationsThanForOne) {
  constexpr auto kSucceeded = OperationEvent::Kind::kSucceeded;
  Leave("o0", Request("Echo", "a"), {kStarted, kSucceeded});
  const int lists = Process(blobs_, clock_).way().lists;
  for (int i = 1; i < 40; ++i) Leave(StrCat("o", i), Request("Echo", "a"), {kStarted, kSucceeded});
  Process process(blobs_, clock_);
  EXPECT_EQ(process.way().lists, lists);
  const std::vector<Operation> operations = process.queue().List();  // the newest first
  ASSERT_THAT(operations, SizeIs(40));
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(operations[static_cast<size_t>(i)].id, StrCat("o", 39 - i));
    EXPECT_EQ(operations[static_cast<size_t>(i)].state, State::kSucceeded);
  }
}

TEST_F(RestoreTest, WhatWasAcceptedGoesOnHoweverFewMayWait) {
  for (const char* id : {"o1", "o2", "o3"}) Leave(id, Request("Echo", id), {});
  Process process(blobs_, clock_, {.workers = 1, .max_queued = 1});
  process.Resume();
  for (const char* id : {"o1", "o2", "o3"}) EXPECT_EQ(process.WaitFor(id).result.bytes, id);
}

// It did not wait in vain while no process was alive, nor does a new one know how long the queue
// was.
TEST_F(RestoreTest, WhatWaitedElsewhereHasItsWholeTimeHere) {
  Leave("o1", Request("Block", "a"), {});
  Leave("o2", Request("Echo", "b"), {});
  clock_.Advance(absl::Hours(10));
  Process process(blobs_, clock_,
                  {.workers = 1, .max_queue_time = absl::Hours(1), .lease = absl::Hours(24)});
  process.Resume();
  process.WaitUntilABlockRuns();
  clock_.Advance(absl::Hours(1));
  process.queue().EndOverdue();
  EXPECT_EQ(process.queue().Get("o2")->state, State::kQueued);
  clock_.Advance(absl::Seconds(1));
  process.queue().EndOverdue();
  EXPECT_EQ(NotesOf(process.WaitFor("o2").error).reason, "QUEUE_DEADLINE");
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

TEST_F(RestoreTest, AnEndThatTheStoreDidNotTakeIsWrittenLater) {
  std::string id;
  {
    Process process(blobs_, clock_);
    id = process.Submit(Request("Block", ""));
    process.WaitUntilABlockRuns();
    process.way().full = true;
    process.queue().Cancel(id).IgnoreError();
    EXPECT_EQ(process.WaitFor(id).state, State::kCancelled);
    EXPECT_THAT(process.queue().Submit(Request("Echo", "refused")),
                StatusIs(absl::StatusCode::kResourceExhausted));
    process.way().full = false;
    process.WaitFor(process.Submit(Request("Echo", "next")));
  }
  EXPECT_EQ(Process(blobs_, clock_).queue().Get(id)->state, State::kCancelled);
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
  process.Resume();
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
  process.Resume();
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
  second.Resume();
  second.WaitUntilABlockRuns();
  EXPECT_OK(second.queue().Cancel(running));
  EXPECT_EQ(second.WaitFor(queued).result.bytes, "queued");
}

TEST_F(RestoreTest, ADeletedOperationLeavesNothingThatIsStillToBeWritten) {
  {
    Process process(blobs_, clock_);
    const std::string id = process.Submit(Request("Block", ""));
    process.WaitUntilABlockRuns();
    process.way().full = true;
    EXPECT_OK(process.queue().Cancel(id));
    process.WaitFor(id);
    ASSERT_OK(process.queue().Delete(id));
    process.way().full = false;
    const std::string next = process.Submit(Request("Echo", "next"));
    process.WaitFor(next);
    ASSERT_OK(process.queue().Delete(next));
  }
  EXPECT_THAT(blobs_.List("", "", 10), IsOkAndHolds(IsEmpty()));
}

TEST_F(RestoreTest, ADeletionThatFailsLeavesTheEndToBeWritten) {
  Process process(blobs_, clock_);
  const std::string id = process.Submit(Request("Block", ""));
  process.WaitUntilABlockRuns();
  process.way().cut = true;
  ASSERT_OK(process.queue().Cancel(id));
  process.WaitFor(id);
  EXPECT_THAT(process.queue().Delete(id), StatusIs(absl::StatusCode::kUnavailable));
  process.way().cut = false;
  process.queue().Poll();
  EXPECT_EQ(Process(blobs_, clock_).queue().Get(id)->state, State::kCancelled);
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
  EXPECT_THAT(blobs_.List("", "", 10), IsOkAndHolds(IsEmpty()));
}

TEST_F(RestoreTest, DamagedEventsAreNotUsedAndKept) {
  Leave("o1", Request("Echo", "a"), {kStarted});
  Leave("o2", Request("Echo", "b"), {kStarted, OperationEvent::Kind::kSucceeded});
  const auto damage = [this](const std::string& key) {
    ASSERT_OK(blobs_.Delete(key));
    ASSERT_OK(blobs_.Put(key, "damaged"));
  };
  damage("operations/o1/000001.00000000000000a1.000001");  // its beginning
  damage("operations/o2/000001.00000000000000a1.000003");  // its end
  const auto before = blobs_.List("", "", 100)->size();
  Process process(blobs_, clock_);
  EXPECT_THAT(process.queue().Get("o1"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("o1")));
  EXPECT_THAT(process.queue().List(), SizeIs(1));
  EXPECT_EQ(blobs_.List("operations/", "", 100)->size(), before);
  process.Resume();
  EXPECT_EQ(process.WaitFor("o2").result.bytes, "b");  // once more
}

TEST_F(RestoreTest, ARequestWhoseAcceptanceWasDamagedIsAcceptedAgain) {
  std::string id;
  {
    Process process(blobs_, clock_);
    id = process.Submit(Request("Echo", "a", "mine"));
    process.WaitFor(id);
  }
  const std::string first = blobs_.List("operations/", "", 1)->at(0).key;
  ASSERT_OK(blobs_.Delete(first));
  ASSERT_OK(blobs_.Put(first, "damaged"));
  Process process(blobs_, clock_);
  EXPECT_EQ(process.Submit(Request("Echo", "b", "mine")), id);
  EXPECT_EQ(process.WaitFor(id).result.bytes, "b");
  EXPECT_EQ(Process(blobs_, clock_).Get(id).result.bytes, "b");
}

// The beginning goes first, so a half-deleted operation that was done cannot come back to life.
TEST_F(RestoreTest, WhatADeleteLeftThatWasCutShortIsRemovedInTheEnd) {
  Leave("o1", Request("Echo", "a"), {kStarted, OperationEvent::Kind::kSucceeded});
  ASSERT_OK(blobs_.Delete("operations/o1/000001.00000000000000a1.000001"));
  EXPECT_THAT(Process(blobs_, clock_).queue().List(), IsEmpty());
  EXPECT_THAT(*blobs_.List("operations/", "", 10), SizeIs(2));  // who knows what is under way
  clock_.Advance(absl::Hours(25));
  EXPECT_THAT(Process(blobs_, clock_).queue().List(), IsEmpty());
  EXPECT_THAT(*blobs_.List("operations/", "", 10), IsEmpty());
}

// Does something before it first reads of an operation.
class BeforeReadStore final : public OtherStore {
 public:
  BeforeReadStore(BlobStore& store, std::function<void()> what)
      : OtherStore(store), what_(std::move(what)) {}
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset,
                                   int64_t length) override {
    if (what_ && key.starts_with("operations/")) std::exchange(what_, nullptr)();
    return OtherStore::Read(key, offset, length);
  }

 private:
  std::function<void()> what_;
};

TEST_F(RestoreTest, ARequestThatIsAcceptedAgainIsNotRemovedWithItsLeftovers) {
  std::string id;
  {
    Process process(blobs_, clock_);
    id = process.Submit(Request("Echo", "a", "mine"));
    process.WaitFor(id);
  }
  ASSERT_OK(blobs_.Delete(blobs_.List("operations/", "", 1)->at(0).key));
  Process accepts(blobs_, clock_);  // long ago: it has seen them when they were new
  clock_.Advance(absl::Hours(25));
  BeforeReadStore store(blobs_, [&] {
    EXPECT_EQ(accepts.Submit(Request("Echo", "b", "mine")), id);
    accepts.WaitFor(id);
  });
  Process looks(store, clock_);
  EXPECT_EQ(Process(blobs_, clock_).Get(id).result.bytes, "b");
}

}  // namespace
}  // namespace secateur
