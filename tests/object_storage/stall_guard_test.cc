#include "server/object_storage/stall_guard.h"

#include <atomic>
#include <future>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/support/eventually.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using ::testing::HasSubstr;

// A call that hangs until it is released.
class Hanging {
 public:
  StallGuard::Call Call() {
    return [released = released_] {
      released.wait();
      return absl::OkStatus();
    };
  }
  void Release() { release_.set_value(); }

 private:
  std::promise<void> release_;
  std::shared_future<void> released_ = release_.get_future().share();
};

TEST(StallGuard, ReturnsWhatTheCallSays) {
  StallGuard guard({});
  EXPECT_OK(guard.Run([] { return absl::OkStatus(); }));
  EXPECT_THAT(guard.Run([] { return absl::DataLossError("bytes"); }),
              StatusIs(absl::StatusCode::kDataLoss, "bytes"));
  EXPECT_THAT(guard.Get<int>([] { return 7; }), IsOkAndHolds(7));
  EXPECT_THAT(guard.Run([]() -> absl::Status { throw std::runtime_error("thrown"); }),
              StatusIs(absl::StatusCode::kInternal, "thrown"));
}

TEST(StallGuard, GivesUpOnACallThatHangsAndCountsItUntilItComesBack) {
  std::atomic<int> counted{0};
  StallGuard guard(
      {.limit = absl::Milliseconds(20), .on_abandoned = [&](int change) { counted += change; }});
  Hanging hanging;
  EXPECT_THAT(guard.Run(hanging.Call()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("20ms")));
  EXPECT_EQ(guard.abandoned(), 1);
  EXPECT_EQ(counted, 1);
  hanging.Release();
  EXPECT_TRUE(Eventually([&] { return guard.abandoned() == 0 && counted == 0; }));
}

TEST(StallGuard, StartsNothingWhileTooManyCallsHang) {
  StallGuard guard({.limit = absl::Milliseconds(5), .max_abandoned = 3});
  Hanging hanging;
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(guard.Run(hanging.Call()).ok());
  std::atomic<bool> called{false};
  const auto call = [&called] {
    called = true;
    return absl::OkStatus();
  };
  EXPECT_THAT(guard.Run(call), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("3 calls")));
  EXPECT_FALSE(called);
  EXPECT_EQ(guard.abandoned(), 3);
  hanging.Release();
  EXPECT_TRUE(Eventually([&] { return guard.abandoned() == 0; }));
  EXPECT_TRUE(Eventually([&] { return guard.Run(call).ok(); }));
}

// As that of a stream, which calls the store in its destructor.
TEST(StallGuard, DoesNotWaitForTheEndOfWhatACallOwnsThatIsNotStarted) {
  std::atomic<int> counted{0};
  StallGuard guard({.limit = absl::Milliseconds(5),
                    .max_abandoned = 1,
                    .on_abandoned = [&](int change) { counted += change; }});
  Hanging hanging;
  EXPECT_FALSE(guard.Run(hanging.Call()).ok());
  std::atomic<bool> ended{false};
  // What it points to is the test's; what matters is its end.
  std::shared_ptr<void> stream(&ended, [&ended, call = hanging.Call()](void*) {
    (void)call();
    ended = true;
  });
  EXPECT_THAT(guard.Run([stream = std::move(stream)] { return absl::OkStatus(); }),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("1 calls")));
  EXPECT_FALSE(ended);
  EXPECT_EQ(counted, 2);
  hanging.Release();
  EXPECT_TRUE(Eventually([&] { return ended && guard.abandoned() == 0 && counted == 0; }));
}

TEST(StallGuard, RunsManyCallsSideBySide) {
  StallGuard guard({.limit = absl::Seconds(60)});
  Hanging hanging;
  std::vector<std::shared_ptr<StallGuard::Task>> tasks;
  for (int i = 0; i < 20; ++i) tasks.push_back(guard.Start(hanging.Call()));
  EXPECT_OK(guard.Run([] { return absl::OkStatus(); }));
  hanging.Release();
  for (const auto& task : tasks) EXPECT_OK(guard.Finish(task));
}

TEST(StallGuard, LetsACallThatHangsOutliveIt) {
  Hanging hanging;
  const auto owned = std::make_shared<int>(0);
  {
    StallGuard guard({.limit = absl::Milliseconds(5)});
    EXPECT_FALSE(guard.Run([call = hanging.Call(), owned] { return call(); }).ok());
  }
  EXPECT_EQ(owned.use_count(), 2);
  hanging.Release();
  EXPECT_TRUE(Eventually([&] { return owned.use_count() == 1; }));
}

// Last of this file: it is for the whole process.
TEST(StallGuardOfAProcessThatEnds, WaitsForNothingForLong) {
  StallGuard guard({.limit = absl::Hours(1)});
  Hanging hanging;
  const auto task = guard.Start(hanging.Call());
  StallGuard::HurryAll(absl::Milliseconds(5));
  EXPECT_THAT(guard.Finish(task), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(guard.Run(hanging.Call()), StatusIs(absl::StatusCode::kUnavailable));
  StallGuard::HurryAll(absl::Minutes(1));
  EXPECT_OK(guard.Run([] { return absl::OkStatus(); }));
  hanging.Release();
  EXPECT_TRUE(Eventually([&] { return guard.abandoned() == 0; }));
}

}  // namespace
}  // namespace secateur
