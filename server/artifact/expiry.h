// How long an expert lives, and the names of the objects that say so.
//
// Beside the manifest of an attempt lie objects `until-<time>`, one for each life that was asked
// for; the last in key order counts, whoever wrote them in whatever order. Without any the attempt
// stays until it is deleted. Times are whole seconds of UTC. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace secateur {

// What a request asks for; by default for ever.
struct Lifetime {
  absl::Time until = absl::InfiniteFuture();
  absl::Duration ttl = absl::InfiniteDuration();

  // The end of what begins at `now`: the earlier of both, rounded up to a whole second.
  // InfiniteFuture() for ever.
  absl::Time EndFrom(absl::Time now) const;
};

// The latest end there can be, but for none: the last second of the year 9999.
absl::Time LastExpiry();

// "until-20261231T235959Z"; "until-never", which comes behind all others in key order, for
// InfiniteFuture(). REQUIRES: a whole second from the year 0 to LastExpiry().
std::string ExpiryName(absl::Time end);
// Its bytes are its name and a newline.
std::string ExpiryText(std::string_view name);
// Absent for any other name.
std::optional<absl::Time> ExpiryOfName(std::string_view name);

}  // namespace secateur
