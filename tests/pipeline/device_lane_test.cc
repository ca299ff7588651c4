#include "server/pipeline/device_lane.h"

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

TEST(DeviceLane, RunsOneAtATimeAndGivesBackItsStatus) {
  DeviceLane lane;
  std::atomic<int> inside{0};
  int runs = 0;  // guarded by the lane
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      RunContext context;
      for (int round = 0; round < 50; ++round) {
        const absl::Status status = lane.Run(context, [&]() -> absl::Status {
          EXPECT_EQ(inside.fetch_add(1), 0);
          ++runs;
          inside.fetch_sub(1);
          return i == 0 ? absl::DataLossError("of the work") : absl::OkStatus();
        });
        EXPECT_EQ(status.code(), i == 0 ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(runs, 300);
}

TEST(DeviceLane, EndsTheWaitOfWhoIsCancelledAndStaysFreeForOthers) {
  DeviceLane lane;
  RunContext holder, waiting, next;
  std::thread waiter;
  ASSERT_OK(lane.Run(holder, [&] {
    waiter = std::thread([&] {
      EXPECT_THAT(lane.Run(waiting, [] { return absl::OkStatus(); }),
                  StatusIs(absl::StatusCode::kCancelled));
    });
    waiting.Cancel();
    waiter.join();  // while the lane is taken
    return absl::OkStatus();
  }));
  bool ran = false;
  EXPECT_THAT(lane.Run(waiting,
                       [&] {
                         ran = true;
                         return absl::OkStatus();
                       }),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(ran);
  EXPECT_OK(lane.Run(next, [] { return absl::OkStatus(); }));
}

}  // namespace
}  // namespace secateur
