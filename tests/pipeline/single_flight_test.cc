#include "server/pipeline/single_flight.h"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

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
  ASSERT_OK_AND_ASSIGN(const auto hold, flight.Acquire("key", context));
  std::thread waiter(
      [&] { EXPECT_THAT(flight.Acquire("key", waiting), StatusIs(absl::StatusCode::kCancelled)); });
  waiting.Cancel();
  waiter.join();  // while the key is still held
}

}  // namespace
}  // namespace secateur
