#include "server/service/lifetime.h"

#include <cstdint>
#include <string>

#include "server/base/errors.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kLast = 253'402'300'799;  // 9999-12-31T23:59:59
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::CreateExpertRequest Until(int64_t seconds, int32_t nanos) {
  v1::CreateExpertRequest request;
  request.mutable_expire_time()->set_seconds(seconds);
  request.mutable_expire_time()->set_nanos(nanos);
  return request;
}

v1::CreateExpertRequest For(int64_t seconds, int32_t nanos) {
  v1::CreateExpertRequest request;
  request.mutable_ttl()->set_seconds(seconds);
  request.mutable_ttl()->set_nanos(nanos);
  return request;
}

TEST(LifetimeFromProto, TakesATimeATimeSpanOrNeither) {
  ASSERT_OK_AND_ASSIGN(Lifetime lifetime, LifetimeFromProto({}, kNow));
  EXPECT_EQ(lifetime.EndFrom(kNow), absl::InfiniteFuture());
  ASSERT_OK_AND_ASSIGN(lifetime, LifetimeFromProto(Until(1'800'000'000, 1), kNow));
  EXPECT_EQ(lifetime.EndFrom(kNow), kNow + absl::Seconds(1));
  ASSERT_OK_AND_ASSIGN(lifetime, LifetimeFromProto(Until(kLast, 0), kNow));
  EXPECT_EQ(lifetime.EndFrom(kNow), LastExpiry());
  ASSERT_OK_AND_ASSIGN(lifetime, LifetimeFromProto(For(0, 1), kNow));
  EXPECT_EQ(lifetime.EndFrom(kNow), kNow + absl::Seconds(1));
  ASSERT_OK_AND_ASSIGN(lifetime, LifetimeFromProto(For(kLast - 1'800'000'000, 0), kNow));
  EXPECT_EQ(lifetime.EndFrom(kNow), LastExpiry());
  // Of a request that was accepted a while ago.
  EXPECT_OK(LifetimeFromProto(Until(5, 0), absl::InfinitePast()));
}

TEST(LifetimeFromProto, RefusesTheRestByFieldAndValue) {
  const std::tuple<v1::CreateExpertRequest, std::string, std::string> cases[] = {
      {Until(0, 0), "expire_time", "1970-01-01T00:00:00"},
      {Until(1'800'000'000, 0), "expire_time", "2027-01-15T08:00:00"},
      {Until(kLast, 1), "expire_time", "9999-12-31T23:59:59.000000001"},
      {Until(kLast + 1, 0), "expire_time", "253402300800 s"},
      {Until(INT64_MAX, 0), "expire_time", "9223372036854775807 s"},
      {Until(INT64_MIN, 0), "expire_time", "-9223372036854775808 s"},
      {Until(1'900'000'000, -1), "expire_time", "-1 ns"},
      {Until(1'900'000'000, 1'000'000'000), "expire_time", "1000000000 ns"},
      {For(0, 0), "ttl", "0"},
      {For(-1, 0), "ttl", "-1s"},
      {For(0, -1), "ttl", "-1ns"},
      {For(1, -1), "ttl", "-1 ns"},
      {For(0, 1'000'000'000), "ttl", "1000000000 ns"},
      {For(kLast - 1'800'000'000 + 1, 0), "ttl", "ends after 9999"},
      {For(315'576'000'001, 0), "ttl", "315576000001 s"},
      {For(INT64_MAX, 0), "ttl", "9223372036854775807 s"}};
  for (const auto& [request, field, value] : cases) {
    const auto lifetime = LifetimeFromProto(request, kNow);
    EXPECT_THAT(lifetime, StatusIs(absl::StatusCode::kInvalidArgument,
                                   AllOf(StartsWith(field), HasSubstr(value))))
        << request.ShortDebugString();
    EXPECT_EQ(NotesOf(lifetime.status()).field, field);
  }
}

}  // namespace
}  // namespace secateur
