// Several processes on one store, each of which answers for all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/base/errors.h"
#include "tests/jobs/process.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using State = OperationState;

class ReplicasTest : public testing::Test {
 protected:
  FakeClock clock_;  // also the store's
  MemoryStore blobs_{clock_};
};

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

TEST_F(ReplicasTest, AnAcceptanceThatOnlySeemedToFailIsTakenUpByItsOwner) {
  Process a(blobs_, clock_), b(blobs_, clock_);
  // The event is written, and then the store is away.
  a.way().before_create = [&a](const std::string&) { a.way().cut = true; };
  EXPECT_THAT(a.queue().Submit(Request("Echo", "x", "mine")),
              StatusIs(absl::StatusCode::kUnavailable));
  a.way().before_create = nullptr;
  a.way().cut = false;
  const std::string id = b.Submit(Request("Echo", "x", "mine"));
  EXPECT_EQ(b.Get(id).state, State::kQueued);
  clock_.Advance(absl::Seconds(11));
  a.Resume();
  EXPECT_EQ(a.WaitFor(id).result.bytes, "x");
  b.queue().Poll();
  EXPECT_EQ(b.Get(id).state, State::kSucceeded);
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
  EXPECT_THAT(b.ran(), IsEmpty());
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
