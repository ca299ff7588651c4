#include "server/pipeline/single_flight.h"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/eventually.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

TEST(SingleFlight, LetsOneAtATimeHoldAKey) {
  SingleFlight flight;
  std::atomic<int> inside{0}, made{0};
  std::atomic<bool> result{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      RunContext context;
      const auto hold = flight.Acquire("expert", context);
      EXPECT_OK(hold);
      EXPECT_EQ(inside.fetch_add(1), 0);
      if (!result.exchange(true)) ++made;
      inside.fetch_sub(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(made, 1);
}

TEST(SingleFlight, DoesNotHoldUpOtherKeys) {
  SingleFlight flight;
  RunContext context;
  ASSERT_OK_AND_ASSIGN(auto one, flight.Acquire("one", context));
  EXPECT_OK(flight.Acquire("two", context));
  EXPECT_OK(flight.Acquire("two", context));  // free again
  std::optional<SingleFlight::Hold> moved(std::move(one));
  RunContext cancelled;
  cancelled.Cancel();
  EXPECT_THAT(flight.Acquire("one", cancelled), StatusIs(absl::StatusCode::kCancelled));
  moved.reset();
  EXPECT_OK(flight.Acquire("one", context));
}

TEST(SingleFlight, EndsTheWaitOfWhoIsCancelled) {
  SingleFlight flight;
  RunContext context, waiting;
  std::optional<SingleFlight::Hold> hold(*flight.Acquire("key", context));
  std::atomic<bool> ended{false};
  std::thread waiter([&] {
    EXPECT_THAT(flight.Acquire("key", waiting), StatusIs(absl::StatusCode::kCancelled));
    ended = true;
  });
  waiting.Cancel();
  EXPECT_TRUE(Eventually([&ended] { return ended.load(); }));  // while the key is still held
  hold.reset();
  waiter.join();
}

TEST(SingleFlight, ShowsWhoWaitsTheProgressOfWhoWorks) {
  SingleFlight flight;
  RunContext working;
  std::optional<SingleFlight::Hold> hold(*flight.Acquire("key", working));
  hold->Report({"profile", 1, 3, "tokens"});
  std::atomic<int64_t> seen{0};
  std::thread waiter([&] {
    RunContext waiting([&](const Progress& progress) {
      EXPECT_EQ(progress.phase, "profile");
      EXPECT_EQ(progress.total, 3);
      EXPECT_GT(progress.done, seen);
      seen = progress.done;
    });
    EXPECT_OK(flight.Acquire("key", waiting));
  });
  EXPECT_TRUE(Eventually([&seen] { return seen == 1; }));
  hold->Report({"profile", 2, 3, "tokens"});
  EXPECT_TRUE(Eventually([&seen] { return seen == 2; }));
  hold.reset();
  waiter.join();
}

}  // namespace
}  // namespace secateur
