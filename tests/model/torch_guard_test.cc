#include "server/model/torch_guard.h"

#include <new>
#include <string>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/model/weights.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(Device, ParsesNamesAndRefusesOthers) {
  EXPECT_EQ(Device::Parse("cpu")->name, "cpu");
  EXPECT_OK(Device::Parse("auto"));
  for (const char* text : {"", "CPU", "cuda", "cuda:", "cuda:-1", "cuda:x", "cuda:0 ", "tpu:0"}) {
    EXPECT_THAT(Device::Parse(text), StatusIs(kInvalid, HasSubstr("\"" + std::string(text) + "\"")))
        << text;
  }
  EXPECT_THAT(Device::Parse("cuda:99"),
              StatusIs(kInvalid, AllOf(HasSubstr("cuda:99"), HasSubstr("does not exist: "))));
}

TEST(GuardTorch, TurnsExceptionsIntoStatuses) {
  const auto status = GuardTorch([] { return at::zeros({2, 3}).mm(at::zeros({2, 3})); }).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal, HasSubstr("libtorch")));
  EXPECT_THAT(GuardTorch([] { return at::empty({int64_t{1} << 50}, at::kFloat); }),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("memory")));
  EXPECT_THAT(GuardTorch([]() -> absl::Status { throw std::bad_alloc(); }),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(GuardTorch([]() -> absl::StatusOr<int> { return absl::AbortedError("own"); }),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("own")));
  EXPECT_THAT(GuardTorch([] { return 7; }), IsOkAndHolds(7));
}

}  // namespace
}  // namespace secateur
