// Processes that end, or seem to: another one of their store goes on with what they leave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "tests/jobs/process.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using State = OperationState;

class AdoptionTest : public testing::Test {
 protected:
  // Long enough for the lease of a process that says nothing to lapse.
  void LetLeasesLapse() { clock_.Advance(absl::Seconds(71)); }
  // An operation that blocks, of a process that then cannot reach the store any more.
  static std::string CutOffAtWork(Process& process) {
    const std::string id = process.Submit(Request("Block", "a"));
    process.WaitUntilABlockRuns();
    process.way().cut = true;
    return id;
  }
  // What a process that comes later sees.
  Operation Seen(const std::string& id) {
    Process later(blobs_, clock_);
    return later.Get(id);
  }

  FakeClock clock_;  // also the store's
  MemoryStore blobs_{clock_};
};

TEST_F(AdoptionTest, AnOrphanIsAdoptedWhenItsLeaseLapses) {
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
  EXPECT_THAT(b.ran(), IsEmpty());
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

TEST_F(AdoptionTest, NothingIsAdoptedThatALivingProcessOwns) {
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
  EXPECT_THAT(b.ran(), IsEmpty());
}

// Of a process on the same machine it is known when it has ended.
TEST_F(AdoptionTest, AProcessThatWasKilledHereIsFollowedAtOnce) {
  ProcessId gone = ProcessId::OfThis();
  --gone.start;
  Process a(blobs_, clock_, {.workers = 1, .self = gone});
  const std::string id = CutOffAtWork(a);
  Process b(blobs_, clock_);
  EXPECT_EQ(b.Get(id).state, State::kQueued);  // nobody is at it
  b.Resume();
  b.ReleaseBlocks();
  EXPECT_EQ(b.WaitFor(id).result.bytes, "a");
}

TEST_F(AdoptionTest, ADrainHandsOverAtOnce) {
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

TEST_F(AdoptionTest, AProcessThatCannotRenewItsLeaseSuspendsItsWorkAndTakesItUpAgain) {
  Process a(blobs_, clock_);
  a.Resume();
  const std::string id = CutOffAtWork(a);
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

TEST_F(AdoptionTest, AProcessThatComesBackLeavesAloneWhatAnotherHasAdopted) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = CutOffAtWork(a);
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

TEST_F(AdoptionTest, AnEndThatComesTooLateChangesNothing) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = CutOffAtWork(a);
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

TEST_F(AdoptionTest, AnEndThatComesBeforeTheAdoptersStopsIt) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  b.Resume();
  const std::string id = CutOffAtWork(a);
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

TEST_F(AdoptionTest, OfTwoThatAdoptAtOnceTheLowerNameGoesOn) {
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

TEST_F(AdoptionTest, ACancelOfAnOrphanEndsItAtOnce) {
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

TEST_F(AdoptionTest, WhatAnotherStoredIsMadeKnownBeforeItsWorkGoesOn) {
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
TEST_F(AdoptionTest, WhatThisServerDoesNotKnowIsLeftToOthersAsLongAsThereAreAny) {
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

}  // namespace
}  // namespace secateur
