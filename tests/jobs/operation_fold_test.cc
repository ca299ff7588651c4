#include "server/jobs/operation_fold.h"

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using Kind = OperationEvent::Kind;
using State = OperationState;

OperationEvent EventOf(Kind kind, int second = 1) {
  OperationEvent event{.kind = kind, .time = absl::FromUnixSeconds(second)};
  if (kind == Kind::kCreated) event.request = {.method = "CreateExpert", .target = "models/m"};
  if (kind == Kind::kSucceeded) event.result = {.type = "type", .bytes = "bytes"};
  if (kind == Kind::kFailed) event.error = absl::DataLossError("lost");
  if (kind == Kind::kCancelled) event.error = absl::CancelledError("stopped");
  return event;
}

StoredEvent Stored(int64_t epoch, const std::string& owner, int64_t number, Kind kind) {
  StoredEvent stored{{epoch, owner, number}, EventOf(kind, static_cast<int>(epoch * 100 + number))};
  if (kind == Kind::kCreated) stored.event.request.request = owner;
  if (kind == Kind::kSucceeded) stored.event.result.bytes = owner;
  return stored;
}

Operation FoldOf(const std::vector<StoredEvent>& events) {
  const auto operation = Fold("o1", events);
  EXPECT_OK(operation);
  return operation.ok() ? *operation : Operation{};
}

auto AllOf(const Operation& o) {
  return std::tuple(o.id, o.request.request, o.state, o.cancel_requested, o.owner, o.epoch,
                    o.released, o.starts, o.create_time, o.end_time, o.start_time, o.result.bytes,
                    o.error);
}

// What processes may write of one operation: terms in which numbers ascend, some that claim their
// epoch and some that only ask for a cancel.
std::vector<StoredEvent> RandomEvents(std::mt19937& random) {
  std::vector<StoredEvent> events = {Stored(1, "b", 1, Kind::kCreated)};
  if (random() % 3 == 0) events.push_back(Stored(1, "a", 1, Kind::kCreated));
  const std::vector<Kind> later = {Kind::kStarted,   Kind::kSuspended, Kind::kCancelRequested,
                                   Kind::kSucceeded, Kind::kFailed,    Kind::kCancelled};
  for (int64_t epoch = 1; epoch <= 4; ++epoch) {
    for (const std::string owner : {"a", "b", "c"}) {
      int64_t number = 1;
      if (epoch > 1 && random() % 2 == 0) {
        events.push_back(Stored(epoch, owner, number, Kind::kAdopted));
      }
      while (random() % 3 != 0) {
        events.push_back(Stored(epoch, owner, ++number, later[random() % later.size()]));
      }
    }
  }
  return events;
}

TEST(Fold, IsTheSameInWhateverOrderTheEventsArrive) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<StoredEvent> events = RandomEvents(random);
    const Operation expected = FoldOf(events);
    for (int order = 0; order < 5; ++order) {
      std::shuffle(events.begin(), events.end(), random);
      EXPECT_EQ(AllOf(FoldOf(events)), AllOf(expected));
    }
  }
}

// Processes see the objects of each other late and in any order; once both have seen all of them
// they agree, whatever they have shown on the way.
TEST(Fold, BringsProcessesTogetherThatSawSubsetsOfTheEvents) {
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    const std::vector<StoredEvent> all = RandomEvents(random);
    Operation last[2];
    for (Operation& operation : last) {
      std::vector<StoredEvent> arriving = all;
      std::shuffle(arriving.begin(), arriving.end(), random);
      std::vector<StoredEvent> seen;
      for (const StoredEvent& stored : arriving) {
        seen.push_back(stored);
        const auto now = Fold("o1", seen);
        if (now.ok()) operation = *now;
      }
    }
    EXPECT_EQ(AllOf(last[0]), AllOf(last[1]));
  }
}

TEST(Fold, ShowsTheEndOfTheLowestKeyOfATermThatIsClaimed) {
  std::mt19937 random(3);
  int ends = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::vector<StoredEvent> events = RandomEvents(random);
    const StoredEvent* end = nullptr;
    for (const StoredEvent& stored : events) {
      const bool claimed = std::any_of(events.begin(), events.end(), [&](const StoredEvent& e) {
        return (e.event.kind == Kind::kCreated || e.event.kind == Kind::kAdopted) &&
               e.key.epoch == stored.key.epoch && e.key.owner == stored.key.owner;
      });
      if (!claimed || !IsEnd(stored.event.kind)) continue;
      if (end == nullptr || stored.key < end->key) end = &stored;
    }
    const Operation operation = FoldOf(events);
    EXPECT_EQ(IsDone(operation.state), end != nullptr);
    if (end == nullptr) continue;
    ++ends;
    EXPECT_EQ(operation.end_time, end->event.time);
    EXPECT_EQ(operation.epoch, end->key.epoch);
    EXPECT_EQ(operation.owner, end->key.owner);
    EXPECT_EQ(operation.error, end->event.error);
    EXPECT_EQ(operation.result.bytes, end->event.result.bytes);
  }
  EXPECT_GT(ends, 500);
}

TEST(Fold, IsNotChangedAfterItsEndByWhateverALoserStillWrites) {
  std::mt19937 random(4);
  for (int round = 0; round < 2000; ++round) {
    std::vector<StoredEvent> events = RandomEvents(random);
    const Operation before = FoldOf(events);
    if (!IsDone(before.state)) continue;
    const std::vector<Kind> kinds = {Kind::kAdopted,         Kind::kStarted,   Kind::kSuspended,
                                     Kind::kCancelRequested, Kind::kSucceeded, Kind::kFailed,
                                     Kind::kCancelled};
    // Of a later epoch, or of a higher name in the same one.
    for (const int64_t epoch : {before.epoch, before.epoch + 1, before.epoch + 7}) {
      const std::string owner = epoch == before.epoch ? before.owner + "x" : "0";
      for (int64_t number = 1; number <= 3; ++number) {
        events.push_back(Stored(epoch, owner, number, kinds[random() % kinds.size()]));
      }
    }
    EXPECT_EQ(AllOf(FoldOf(events)), AllOf(before));
  }
}

TEST(Fold, TellsWhoIsToDoItAndWhetherItRuns) {
  std::vector<StoredEvent> events = {Stored(1, "b", 1, Kind::kCreated)};
  EXPECT_EQ(FoldOf(events).state, State::kQueued);
  EXPECT_EQ(FoldOf(events).owner, "b");
  events.push_back(Stored(1, "b", 2, Kind::kStarted));
  EXPECT_EQ(FoldOf(events).state, State::kRunning);
  EXPECT_EQ(FoldOf(events).start_time, absl::FromUnixSeconds(102));
  events.push_back(Stored(1, "b", 3, Kind::kSuspended));
  EXPECT_EQ(FoldOf(events).state, State::kQueued);
  EXPECT_TRUE(FoldOf(events).released);
  events.push_back(Stored(2, "d", 1, Kind::kAdopted));
  EXPECT_EQ(FoldOf(events).owner, "d");
  EXPECT_FALSE(FoldOf(events).released);
  events.push_back(Stored(2, "d", 2, Kind::kStarted));
  events.push_back(Stored(2, "c", 1, Kind::kAdopted));  // d has started, and yields
  EXPECT_EQ(FoldOf(events).owner, "c");
  EXPECT_EQ(FoldOf(events).epoch, 2);
  EXPECT_EQ(FoldOf(events).state, State::kQueued);
  events.push_back(Stored(2, "d", 3, Kind::kSucceeded));  // it had it done already
  EXPECT_EQ(FoldOf(events).result.bytes, "d");
  events.push_back(Stored(2, "c", 2, Kind::kSucceeded));
  EXPECT_EQ(FoldOf(events).result.bytes, "c");
  events.push_back(Stored(1, "b", 4, Kind::kSucceeded));
  EXPECT_EQ(FoldOf(events).result.bytes, "b");
}

TEST(Fold, CountsTheStartsOfOwnersFromTheLastThatSuspended) {
  std::vector<StoredEvent> events = {
      Stored(1, "b", 1, Kind::kCreated), Stored(1, "b", 2, Kind::kStarted),
      Stored(2, "b", 1, Kind::kAdopted), Stored(2, "b", 2, Kind::kStarted),
      Stored(2, "x", 1, Kind::kAdopted), Stored(2, "x", 2, Kind::kStarted)};  // who yields
  EXPECT_EQ(FoldOf(events).starts, 2);
  events.push_back(Stored(2, "b", 3, Kind::kSuspended));
  EXPECT_EQ(FoldOf(events).starts, 0);
  events.push_back(Stored(3, "a", 1, Kind::kAdopted));
  EXPECT_EQ(FoldOf(events).starts, 0);
  events.push_back(Stored(3, "a", 2, Kind::kStarted));
  EXPECT_EQ(FoldOf(events).starts, 1);
}

TEST(Fold, KnowsOfACancelWhoeverAsksUntilAnEndSaysWhetherItCameInTime) {
  std::vector<StoredEvent> events = {Stored(1, "b", 1, Kind::kCreated),
                                     Stored(1, "b", 2, Kind::kStarted),
                                     Stored(1, "z", 1, Kind::kCancelRequested)};
  EXPECT_TRUE(FoldOf(events).cancel_requested);
  EXPECT_EQ(FoldOf(events).owner, "b");
  StoredEvent end = Stored(1, "b", 3, Kind::kSucceeded);
  events.push_back(end);
  EXPECT_FALSE(FoldOf(events).cancel_requested);
  events.back().event.cancel_requested = true;
  EXPECT_TRUE(FoldOf(events).cancel_requested);
}

TEST(Fold, DoesNotUseATermWhoseClaimCannotBeRead) {
  const std::vector<StoredEvent> events = {Stored(1, "b", 1, Kind::kCreated),
                                           Stored(2, "a", 2, Kind::kStarted),
                                           Stored(2, "a", 3, Kind::kFailed)};
  EXPECT_EQ(FoldOf(events).state, State::kQueued);
  EXPECT_EQ(FoldOf(events).epoch, 1);
}

// The same request under its id, after the first acceptance was damaged.
TEST(Fold, BeginsAgainBehindWhatADamagedBeginningLeft) {
  std::vector<StoredEvent> events = {Stored(1, "b", 2, Kind::kStarted),
                                     Stored(2, "c", 1, Kind::kAdopted),
                                     Stored(2, "c", 2, Kind::kFailed)};
  EXPECT_THAT(Fold("o17", events), StatusIs(absl::StatusCode::kNotFound, HasSubstr("o17")));
  events.push_back(Stored(3, "d", 1, Kind::kCreated));
  EXPECT_EQ(FoldOf(events).state, State::kQueued);
  EXPECT_EQ(FoldOf(events).request.request, "d");
  EXPECT_THAT(Fold("o17", {}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("o17")));
}

}  // namespace
}  // namespace secateur
