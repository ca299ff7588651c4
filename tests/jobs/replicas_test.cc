// Several processes on one store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "server/base/errors.h"
#include "tests/jobs/process.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using State = OperationState;

class ReplicasTest : public testing::Test {
 protected:
  // Long enough for the lease of a process that says nothing to lapse.
  void LetLeasesLapse() { clock_.Advance(absl::Seconds(71)); }
  // What a process that comes later sees.
  Operation Seen(const std::string& id) {
    Process later(blobs_, clock_);
    return later.Get(id);
  }
  static bool Works(Process& process) { return !process.ran().empty(); }

  FakeClock clock_;  // also the store's
  MemoryStore blobs_{clock_};
};

TEST_F(ReplicasTest, AnOrphanIsAdoptedWhenItsLeaseLapses) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string running = a.Submit(Request("Block", "a"));
  clock_.Advance(absl::Seconds(1));
  const std::string queued = a.Submit(Request("Echo", "b"));
  a.WaitUntilABlockRuns();
  a.way().cut = true;
  b.queue().Poll();
  clock_.Advance(absl::Seconds(58));
  b.queue().Poll();
  EXPECT_EQ(b.Get(running).state, State::kRunning);
  EXPECT_EQ(b.Get(running).owner, a.queue().owner());
  EXPECT_FALSE(Works(b));
  clock_.Advance(absl::Seconds(12));
  b.queue().Poll();
  b.WaitUntilABlockRuns();
  EXPECT_EQ(b.Get(running).owner, b.queue().owner());
  EXPECT_EQ(b.Get(running).epoch, 2);
  b.ReleaseBlocks();
  EXPECT_EQ(b.WaitFor(running).result.bytes, "a");
  EXPECT_EQ(b.WaitFor(queued).result.bytes, "b");
  EXPECT_THAT(b.ran(), ElementsAre("a", "b"));
}

TEST_F(ReplicasTest, NothingIsAdoptedThatALivingProcessOwns) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  for (int i = 0; i < 100; ++i) {
    clock_.Advance(absl::Seconds(11));
    a.queue().Poll();
    b.queue().Poll();
  }
  a.ReleaseBlocks();
  EXPECT_EQ(a.WaitFor(id).epoch, 1);
  EXPECT_FALSE(Works(b));
}

// Of a process on the same machine it is known when it has ended.
TEST_F(ReplicasTest, AProcessThatWasKilledHereIsFollowedAtOnce) {
  ProcessId gone = ProcessId::OfThis();
  --gone.start;
  Process a(blobs_, clock_, {.workers = 1, .self = gone});
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  a.way().cut = true;
  Process b(blobs_, clock_);
  EXPECT_EQ(b.Get(id).state, State::kQueued);  // nobody is at it
  b.Resume();
  b.ReleaseBlocks();
  EXPECT_EQ(b.WaitFor(id).result.bytes, "a");
}

TEST_F(ReplicasTest, ADrainHandsOverAtOnce) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string running = a.Submit(Request("Block", "a"));
  const std::string queued = a.Submit(Request("Echo", "b"));
  a.WaitUntilABlockRuns();
  b.queue().Poll();
  a.queue().Drain(absl::ZeroDuration());
  b.ReleaseBlocks();
  b.queue().Poll();
  EXPECT_EQ(b.WaitFor(running).result.bytes, "a");
  EXPECT_EQ(b.WaitFor(running).starts, 1);  // the first was no crash
  EXPECT_EQ(b.WaitFor(queued).result.bytes, "b");
  EXPECT_THAT(a.ran(), ElementsAre("a"));
}

TEST_F(ReplicasTest, AProcessThatCannotRenewItsLeaseSuspendsItsWorkAndTakesItUpAgain) {
  Process a(blobs_, clock_);
  a.Resume();
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  a.way().cut = true;
  clock_.Advance(absl::Seconds(59));
  a.queue().Poll();
  EXPECT_EQ(a.Get(id).state, State::kRunning);
  clock_.Advance(absl::Seconds(1));
  a.queue().Poll();
  a.WaitUntilNoBlockRuns();
  while (a.Get(id).state != State::kQueued) std::this_thread::yield();
  a.queue().Poll();
  EXPECT_THAT(a.ran(), SizeIs(1));
  a.way().cut = false;
  // The worker may still be leaving the operation: then the next poll takes it up.
  while (a.Get(id).epoch == 1) a.queue().Poll();
  a.WaitUntilABlockRuns();
  EXPECT_EQ(a.Get(id).starts, 1);
  a.ReleaseBlocks();
  EXPECT_EQ(a.WaitFor(id).result.bytes, "a");
}

TEST_F(ReplicasTest, AProcessThatComesBackLeavesAloneWhatAnotherHasAdopted) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  a.way().cut = true;
  LetLeasesLapse();
  b.queue().Poll();
  b.WaitUntilABlockRuns();
  a.way().cut = false;  // it was only away: it does not even know
  a.queue().Poll();
  a.WaitUntilNoBlockRuns();
  for (int i = 0; i < 3; ++i) a.queue().Poll();
  EXPECT_EQ(a.Get(id).owner, b.queue().owner());
  EXPECT_EQ(a.Get(id).state, State::kRunning);
  b.ReleaseBlocks();
  b.WaitFor(id);
  a.queue().Poll();
  EXPECT_EQ(a.Get(id).state, State::kSucceeded);
  EXPECT_THAT(a.ran(), SizeIs(1));
  EXPECT_THAT(b.ran(), SizeIs(1));
}

TEST_F(ReplicasTest, AnEndThatComesTooLateChangesNothing) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  a.way().cut = true;
  LetLeasesLapse();
  b.ReleaseBlocks();
  b.queue().Poll();
  EXPECT_EQ(b.WaitFor(id).state, State::kSucceeded);
  EXPECT_OK(a.queue().Cancel(id));
  EXPECT_EQ(a.WaitFor(id).state, State::kCancelled);  // as far as it knows
  a.way().cut = false;
  a.queue().Poll();
  EXPECT_EQ(a.Get(id).state, State::kSucceeded);
  b.queue().Poll();
  EXPECT_EQ(b.Get(id).state, State::kSucceeded);
  EXPECT_EQ(Seen(id).state, State::kSucceeded);
  EXPECT_FALSE(Seen(id).cancel_requested);
}

TEST_F(ReplicasTest, AnEndThatComesBeforeTheAdoptersStopsIt) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  a.way().cut = true;
  a.ReleaseBlocks();
  a.WaitFor(id);
  LetLeasesLapse();
  b.queue().Poll();
  b.WaitUntilABlockRuns();
  a.way().cut = false;
  a.queue().Poll();
  b.queue().Poll();
  b.WaitUntilNoBlockRuns();
  EXPECT_EQ(b.Get(id).state, State::kSucceeded);
  EXPECT_EQ(b.Get(id).owner, a.queue().owner());
  EXPECT_EQ(Seen(id).owner, a.queue().owner());
}

TEST_F(ReplicasTest, OfTwoThatAdoptAtOnceTheLowerNameGoesOn) {
  for (int round = 0; round < 10; ++round) {
    std::string id;
    bool raced = false;
    {
      Process a(blobs_, clock_);
      id = a.Submit(Request("Block", "a"));
      a.WaitUntilABlockRuns();
    }
    Process b(blobs_, clock_), c(blobs_, clock_);
    b.way().before_create = [&](const std::string& key) {
      if (key.find(id) == std::string::npos || std::exchange(raced, true)) return;
      c.Resume();  // adopts and starts after b has looked and before it writes
      c.WaitUntilABlockRuns();
    };
    b.Resume();
    ASSERT_TRUE(raced);
    const bool b_lower = b.queue().owner() < c.queue().owner();
    // It looked once more after its claim.
    EXPECT_EQ(b.Get(id).owner, b_lower ? b.queue().owner() : c.queue().owner());
    c.queue().Poll();
    b.queue().Poll();
    Process& goes_on = b_lower ? b : c;
    Process& yields = b_lower ? c : b;
    yields.WaitUntilNoBlockRuns();
    goes_on.WaitUntilABlockRuns();
    EXPECT_EQ(b.Get(id).owner, goes_on.queue().owner());
    EXPECT_EQ(c.Get(id).owner, goes_on.queue().owner());
    EXPECT_EQ(b.ran().size(), b_lower ? 1U : 0U);  // a loser that knows does not even start
    goes_on.ReleaseBlocks();
    EXPECT_EQ(goes_on.WaitFor(id).result.bytes, "a");
    yields.queue().Poll();
    EXPECT_EQ(yields.Get(id).state, State::kSucceeded);
    EXPECT_OK(b.queue().Delete(id));
  }
}

TEST_F(ReplicasTest, EachAnswersForAll) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  const std::string done = a.Submit(Request("Echo", "a"));
  a.WaitFor(done);
  EXPECT_EQ(b.Get(done).result.bytes, "a");  // no poll was between
  const std::string running = a.Submit(Request("Block", "b"));
  std::vector<std::string> listed;
  for (const Operation& operation : b.queue().List()) listed.push_back(operation.id);
  EXPECT_THAT(listed, testing::UnorderedElementsAre(done, running));
  EXPECT_THAT(b.queue().Get("o0"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(b.queue().Delete(running), StatusIs(absl::StatusCode::kFailedPrecondition));
  a.ReleaseBlocks();
  a.WaitFor(running);
  EXPECT_OK(b.queue().Delete(running));
  EXPECT_OK(b.queue().Delete(done));
  clock_.Advance(absl::Seconds(11));
  a.queue().Poll();
  EXPECT_THAT(a.queue().Get(done), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(a.queue().List(), IsEmpty());
}

TEST_F(ReplicasTest, AStoreThatDoesNotAnswerIsNoProofThatThereIsNoSuchOperation) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  const std::string id = a.Submit(Request("Echo", "a", "mine"));
  b.way().cut = true;
  EXPECT_THAT(b.queue().Get(id), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(b.queue().Submit(Request("Echo", "a", "mine")),
              StatusIs(absl::StatusCode::kUnavailable));
  b.way().cut = false;
}

TEST_F(ReplicasTest, AWatcherHearsOfEachChangeWithinAPoll) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  const std::string first = a.Submit(Request("Block", "first"));
  a.WaitUntilABlockRuns();
  const std::string id = a.Submit(Request("Block", "second"));
  b.Get(id);
  std::vector<State> seen;
  ASSERT_OK(b.queue().Observe(id, [&seen](const Operation& now) { seen.push_back(now.state); }));
  b.queue().Poll();
  EXPECT_OK(a.queue().Cancel(first));
  while (a.Get(id).state != State::kRunning) std::this_thread::yield();
  b.queue().Poll();
  b.queue().Poll();
  a.ReleaseBlocks();
  a.WaitFor(id);
  b.queue().Poll();
  b.queue().Poll();
  EXPECT_THAT(seen, ElementsAre(State::kQueued, State::kRunning, State::kSucceeded));
}

TEST_F(ReplicasTest, AWatcherIsToldToAskElsewhereWhenItsServerDrains) {
  Process a(blobs_, clock_);
  const std::string id = a.Submit(Request("Block", "a"));
  {
    Process b(blobs_, clock_);
    b.Get(id);
    std::vector<bool> suspended;
    ASSERT_OK(b.queue().Observe(
        id, [&suspended](const Operation& now) { suspended.push_back(now.suspended); }));
    b.queue().Drain(absl::InfiniteDuration());  // does not wait for what others do
    ASSERT_FALSE(suspended.empty());
    EXPECT_TRUE(suspended.back());
  }
  a.ReleaseBlocks();
  EXPECT_EQ(a.WaitFor(id).epoch, 1);
}

TEST_F(ReplicasTest, ACancelReachesTheOwner) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  const std::string running = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  const std::string queued = a.Submit(Request("Echo", "b"));
  EXPECT_OK(b.queue().Cancel(running));
  EXPECT_OK(b.queue().Cancel(running));
  EXPECT_OK(b.queue().Cancel(queued));
  EXPECT_TRUE(b.Get(running).cancel_requested);
  EXPECT_EQ(b.Get(running).state, State::kRunning);
  a.queue().Poll();
  EXPECT_EQ(a.WaitFor(running).state, State::kCancelled);
  EXPECT_EQ(a.WaitFor(queued).state, State::kCancelled);
  b.queue().Poll();
  for (const std::string& id : {running, queued}) {
    EXPECT_EQ(b.Get(id).state, State::kCancelled);
    EXPECT_TRUE(b.Get(id).cancel_requested);
  }
  EXPECT_THAT(a.ran(), ElementsAre("a"));
  b.way().cut = true;
  EXPECT_OK(b.queue().Cancel(running));  // done: nothing to do
}

TEST_F(ReplicasTest, ACancelThatCannotReachTheOwnerIsAnError) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  const std::string id = a.Submit(Request("Block", "a"));
  b.Get(id);
  b.way().cut = true;
  EXPECT_THAT(b.queue().Cancel(id), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(b.Get(id).cancel_requested);
  b.way().cut = false;
}

TEST_F(ReplicasTest, ACancelOfAnOrphanEndsItAtOnce) {
  Process b(blobs_, clock_);
  std::string id;
  {
    Process a(blobs_, clock_);
    id = a.Submit(Request("Block", "a"));
  }
  EXPECT_TRUE(b.queue().List().size() == 1);
  b.queue().Poll();
  EXPECT_OK(b.queue().Cancel(id));
  EXPECT_EQ(b.Get(id).state, State::kCancelled);
  EXPECT_EQ(Seen(id).state, State::kCancelled);
}

TEST_F(ReplicasTest, TheSameRequestIsOneOperationWhereverItArrives) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = a.Submit(Request("Block", "a", "mine"));
  a.WaitUntilABlockRuns();
  EXPECT_EQ(b.Submit(Request("Block", "a", "mine")), id);
  ASSERT_OK_AND_ASSIGN(const Operation known,
                       b.queue().SubmitDone(Request("Block", "a", "mine"), {"t", "r"}));
  EXPECT_EQ(known.state, State::kRunning);
  const absl::Status reused = b.queue().Submit(Request("Block", "other", "mine")).status();
  EXPECT_THAT(reused, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(NotesOf(reused).reason, "REQUEST_ID_REUSED");
  b.queue().Poll();
  a.ReleaseBlocks();
  a.WaitFor(id);
  b.queue().Poll();
  EXPECT_EQ(b.WaitFor(b.Submit(Request("Block", "a", "mine"))).result.bytes, "a");
  EXPECT_FALSE(Works(b));
  Process later(blobs_, clock_);
  EXPECT_EQ(NotesOf(later.queue().Submit(Request("Block", "other", "mine")).status()).reason,
            "REQUEST_ID_REUSED");
}

TEST_F(ReplicasTest, OfTwoThatAcceptTheSameRequestAtOnceTheLowerNameGoesOn) {
  for (int round = 0; round < 10; ++round) {
    std::string of_a;
    Process a(blobs_, clock_), b(blobs_, clock_);
    b.way().before_create = [&](const std::string&) {
      if (!of_a.empty()) return;
      of_a = a.Submit(Request("Block", "a", "mine"));  // after b has looked
      a.WaitUntilABlockRuns();
    };
    const std::string id = b.Submit(Request("Block", "a", "mine"));
    EXPECT_EQ(id, of_a);
    const bool a_lower = a.queue().owner() < b.queue().owner();
    EXPECT_EQ(b.Get(id).owner, a_lower ? a.queue().owner() : b.queue().owner());
    a.queue().Poll();
    b.queue().Poll();
    Process& goes_on = a_lower ? a : b;
    Process& yields = a_lower ? b : a;
    yields.WaitUntilNoBlockRuns();
    goes_on.WaitUntilABlockRuns();
    EXPECT_EQ(b.ran().size(), a_lower ? 0U : 1U);
    goes_on.ReleaseBlocks();
    EXPECT_EQ(goes_on.WaitFor(id).result.bytes, "a");
    yields.queue().Poll();
    EXPECT_EQ(yields.WaitFor(id).owner, goes_on.queue().owner());
    EXPECT_OK(a.queue().Delete(id));
  }
}

TEST_F(ReplicasTest, OfTwoRequestsThatComeAtOnceUnderOneIdTheSecondIsRefused) {
  for (int round = 0; round < 10; ++round) {  // whichever name is lower
    std::string id;
    Process a(blobs_, clock_), b(blobs_, clock_);
    b.way().before_create = [&](const std::string&) {
      if (id.empty()) id = a.Submit(Request("Block", "a", "mine"));  // after b has looked
    };
    const absl::Status refused = b.queue().Submit(Request("Block", "b", "mine")).status();
    EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_EQ(NotesOf(refused).reason, "REQUEST_ID_REUSED");
    a.queue().Poll();
    a.ReleaseBlocks();
    EXPECT_EQ(a.WaitFor(id).result.bytes, "a");
    EXPECT_EQ(b.Get(id).request.request, "a");
    EXPECT_OK(a.queue().Delete(id));
  }
}

TEST_F(ReplicasTest, WhatAnotherStoredIsMadeKnownBeforeItsWorkGoesOn) {
  std::atomic<int> caught_up{0};
  Process b(blobs_, clock_, {.workers = 1, .before_adopted = [&caught_up] { ++caught_up; }});
  b.Resume();
  b.WaitFor(b.Submit(Request("Echo", "own")));
  EXPECT_EQ(caught_up, 0);
  std::string id;
  {
    Process a(blobs_, clock_);
    id = a.Submit(Request("Block", "a"));
  }
  b.ReleaseBlocks();
  b.queue().Poll();
  b.queue().List();
  b.queue().Poll();
  b.WaitFor(id);
  EXPECT_EQ(caught_up, 1);
}

// A server of another version may know what this one does not.
TEST_F(ReplicasTest, WhatThisServerDoesNotKnowIsLeftToOthersAsLongAsThereAreAny) {
  std::string id;
  {
    Process a(blobs_, clock_);
    id = a.Submit(Request("Block", "a"));
  }
  Metrics metrics("test");
  JobQueue old({.poll_every = absl::ZeroDuration()}, {}, blobs_, clock_, metrics);
  {
    Process other(blobs_, clock_);
    ASSERT_OK(old.Restore());
    old.Resume();
    old.Poll();
    EXPECT_EQ(old.Get(id)->state, State::kQueued);
  }
  old.Poll();
  EXPECT_THAT(old.Get(id)->error, StatusIs(absl::StatusCode::kUnimplemented));
}

TEST_F(ReplicasTest, WatchersDoNotWaitForTheStore) {
  Process a(blobs_, clock_);
  const std::string id = a.Submit(Request("Block", "a"));
  a.WaitUntilABlockRuns();
  std::promise<void> writing, go_on;
  a.way().before_create = [&, reached = false](const std::string&) mutable {
    if (std::exchange(reached, true)) return;
    writing.set_value();
    go_on.get_future().wait();
  };
  std::thread cancel([&] { EXPECT_OK(a.queue().Cancel(id)); });
  writing.get_future().wait();
  // All that gRPC's threads call, while the store does not answer for this very operation.
  ASSERT_OK_AND_ASSIGN(const int64_t ticket, a.queue().Observe(id, [](const Operation&) {}));
  a.queue().Unobserve(ticket);
  go_on.set_value();
  cancel.join();
  EXPECT_EQ(a.WaitFor(id).state, State::kCancelled);
}

TEST_F(ReplicasTest, NothingIsShownBeforeItIsInTheStore) {
  Process a(blobs_, clock_);
  Mutex mutex;
  std::vector<State> before_writing;
  std::string id;
  a.way().before_create = [&](const std::string& key) {
    if (key.find("operations/") == std::string::npos) return;
    State now = State::kQueued;
    const std::string of = key.substr(11, key.find('/', 11) - 11);
    const auto ticket = a.queue().Observe(of, [&now](const Operation& o) { now = o.state; });
    if (ticket.ok()) {
      a.queue().Unobserve(*ticket);
      MutexLock lock(mutex);
      before_writing.push_back(now);
    }
  };
  a.WaitFor(a.Submit(Request("Echo", "a")));
  MutexLock lock(mutex);
  // "created" belongs to nothing that is known; then "started", and the end.
  EXPECT_THAT(before_writing, ElementsAre(State::kQueued, State::kRunning));
}

}  // namespace
}  // namespace secateur
