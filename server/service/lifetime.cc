#include "server/service/lifetime.h"

#include <cstdint>
#include <string>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/validate.h"

namespace secateur {
namespace {

constexpr int64_t kNanos = 1'000'000'000;
constexpr int64_t kFirstSecond = -62'135'596'800;  // 0001-01-01, the first of a Timestamp
constexpr int64_t kLastSecond = 253'402'300'799;   // 9999-12-31T23:59:59, the last
constexpr int64_t kMostSeconds = 315'576'000'000;  // of a Duration, either way

std::string Shown(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

absl::StatusOr<absl::Time> ExpireTime(const google::protobuf::Timestamp& proto, absl::Time now) {
  const int64_t seconds = proto.seconds();
  const int32_t nanos = proto.nanos();
  if (seconds < kFirstSecond || seconds > kLastSecond || nanos < 0 || nanos >= kNanos) {
    return BadField("expire_time", StrCat(seconds, " s and ", nanos, " ns are no Timestamp"));
  }
  const absl::Time time = absl::FromUnixSeconds(seconds) + absl::Nanoseconds(nanos);
  if (time <= now) {
    return BadField("expire_time",
                    StrCat(Shown(time), " is not in the future; here it is ", Shown(now)));
  }
  if (time <= LastExpiry()) return time;
  return BadField("expire_time", StrCat(Shown(time), " is after ", Shown(LastExpiry()),
                                        ", the latest that can be kept"));
}

absl::StatusOr<absl::Duration> Ttl(const google::protobuf::Duration& proto, absl::Time now) {
  const int64_t seconds = proto.seconds();
  const int32_t nanos = proto.nanos();
  const bool mixed = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
  if (seconds < -kMostSeconds || seconds > kMostSeconds || nanos <= -kNanos || nanos >= kNanos ||
      mixed) {
    return BadField("ttl", StrCat(seconds, " s and ", nanos, " ns are no Duration"));
  }
  const absl::Duration ttl = absl::Seconds(seconds) + absl::Nanoseconds(nanos);
  if (ttl <= absl::ZeroDuration()) {
    return BadField("ttl", StrCat(absl::FormatDuration(ttl), " is not above 0"));
  }
  if (now + ttl <= LastExpiry()) return ttl;
  return BadField("ttl", StrCat(absl::FormatDuration(ttl), " ends after ", Shown(LastExpiry()),
                                ", the latest that can be kept"));
}

}  // namespace

absl::StatusOr<Lifetime> LifetimeFromProto(const v1::CreateExpertRequest& request, absl::Time now) {
  Lifetime lifetime;
  if (request.has_expire_time()) {
    ASSIGN_OR_RETURN(lifetime.until, ExpireTime(request.expire_time(), now));
  } else if (request.has_ttl()) {
    ASSIGN_OR_RETURN(lifetime.ttl, Ttl(request.ttl(), now));
  }
  return lifetime;
}

}  // namespace secateur
