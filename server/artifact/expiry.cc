#include "server/artifact/expiry.h"

#include <algorithm>

#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr char kFormat[] = "until-%E4Y%m%dT%H%M%SZ";
constexpr std::string_view kNever = "until-never";

}  // namespace

absl::Time LastExpiry() {
  return absl::FromCivil(absl::CivilSecond(9999, 12, 31, 23, 59, 59), absl::UTCTimeZone());
}

absl::Time Lifetime::EndFrom(absl::Time now) const {
  const absl::Time end = std::min(until, now + ttl);
  if (end == absl::InfiniteFuture()) return end;
  const absl::Time whole = absl::FromUnixSeconds(absl::ToUnixSeconds(end));  // the second before
  return std::min(whole < end ? whole + absl::Seconds(1) : whole, LastExpiry());
}

std::string ExpiryName(absl::Time end) {
  if (end == absl::InfiniteFuture()) return std::string(kNever);
  return absl::FormatTime(kFormat, end, absl::UTCTimeZone());
}

std::string ExpiryText(std::string_view name) { return StrCat(name, "\n"); }

std::optional<absl::Time> ExpiryOfName(std::string_view name) {
  if (name == kNever) return absl::InfiniteFuture();
  absl::Time end;
  std::string error;
  const bool parsed = absl::ParseTime(kFormat, ToAbsl(name), absl::UTCTimeZone(), &end, &error);
  if (!parsed || ExpiryName(end) != name) return std::nullopt;
  return end;
}

}  // namespace secateur
