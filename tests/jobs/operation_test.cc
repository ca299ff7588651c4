#include "server/jobs/operation.h"

#include <algorithm>
#include <random>

#include "server/jobs/operation_store.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using Kind = OperationEvent::Kind;

OperationEvent EventOf(Kind kind, int second) {
  OperationEvent event{.kind = kind, .time = absl::FromUnixSeconds(second)};
  if (kind == Kind::kCreated) event.request = {.method = "CreateExpert", .target = "models/m"};
  if (kind == Kind::kSucceeded) event.result = {.type = "type", .bytes = "bytes"};
  if (kind == Kind::kFailed) event.error = absl::DataLossError("lost");
  if (kind == Kind::kCancelled) event.error = absl::CancelledError("stopped");
  return event;
}

OperationState EndOf(Kind kind) {
  return kind == Kind::kSucceeded ? OperationState::kSucceeded
         : kind == Kind::kFailed  ? OperationState::kFailed
                                  : OperationState::kCancelled;
}

TEST(Fold, EndsInTheFirstTerminalStateWhateverFollows) {
  std::mt19937 random(1);
  const std::vector<Kind> kinds = {Kind::kStarted, Kind::kCancelRequested, Kind::kSucceeded,
                                   Kind::kFailed, Kind::kCancelled};
  for (int round = 0; round < 2000; ++round) {
    std::vector<OperationEvent> events = {EventOf(Kind::kCreated, 0)};
    const int count = static_cast<int>(random() % 8);
    for (int i = 1; i <= count; ++i) events.push_back(EventOf(kinds[random() % 5], i));
    ASSERT_OK_AND_ASSIGN(const Operation operation, Fold("o1", events));
    const auto end = std::find_if(events.begin(), events.end(), [](const OperationEvent& event) {
      return event.kind >= Kind::kSucceeded;
    });
    const auto happened = [&](Kind kind) {
      return std::any_of(events.begin(), end, [&](const auto& e) { return e.kind == kind; });
    };
    EXPECT_EQ(operation.cancel_requested, happened(Kind::kCancelRequested));
    EXPECT_EQ(operation.request.method, "CreateExpert");
    if (end == events.end()) {
      EXPECT_EQ(operation.state,
                happened(Kind::kStarted) ? OperationState::kRunning : OperationState::kQueued);
      EXPECT_EQ(operation.end_time, absl::InfinitePast());
      continue;
    }
    EXPECT_EQ(operation.state, EndOf(end->kind));
    EXPECT_EQ(operation.end_time, end->time);
    EXPECT_EQ(operation.error, end->error);
    EXPECT_EQ(operation.result.bytes, end->result.bytes);
  }
}

TEST(Fold, RefusesEventsThatDoNotBeginWithTheCreation) {
  EXPECT_THAT(Fold("o17", {}), StatusIs(absl::StatusCode::kInternal, HasSubstr("o17")));
  EXPECT_THAT(Fold("o17", {EventOf(Kind::kStarted, 1), EventOf(Kind::kCreated, 2)}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("o17")));
}

TEST(MemoryOperationStore, GivesBackEventsInTheirOrderUntilTheyAreDeleted) {
  MemoryOperationStore store;
  ASSERT_OK(store.Append("o1", EventOf(Kind::kCreated, 1)));
  ASSERT_OK(store.Append("o2", EventOf(Kind::kCreated, 2)));
  ASSERT_OK(store.Append("o1", EventOf(Kind::kStarted, 3)));
  ASSERT_OK(store.Append("o1", EventOf(Kind::kSucceeded, 4)));
  ASSERT_OK(store.Delete("o2"));
  ASSERT_OK_AND_ASSIGN(const auto events, store.Load());
  ASSERT_EQ(events.size(), 1U);
  ASSERT_OK_AND_ASSIGN(const Operation operation, Fold("o1", events.at("o1")));
  EXPECT_EQ(operation.state, OperationState::kSucceeded);
  EXPECT_EQ(operation.start_time, absl::FromUnixSeconds(3));
}

}  // namespace
}  // namespace secateur
