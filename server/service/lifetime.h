// How long an expert is to live, from a request.
#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "secateur/v1/secateur.pb.h"
#include "server/artifact/expiry.h"

namespace secateur {

// For ever when nothing is said. INVALID_ARGUMENT naming the field and its value for an expire_time
// that is not after `now` or is no time, a ttl that is not above 0 or is no duration, and for what
// would end after LastExpiry(), for a ttl seen from `now`.
absl::StatusOr<Lifetime> LifetimeFromProto(const v1::CreateExpertRequest& request, absl::Time now);

}  // namespace secateur
