// Arrow's statuses in our words. Private to object storage.
#pragma once

#include <arrow/status.h>

#include <string_view>

#include "absl/status/status.h"

namespace secateur {

// "what: what Arrow says". Arrow keeps the store's own code and request id in its text, of which
// the code is made: missing objects are NOT_FOUND, a missing bucket and a clock that is off
// FAILED_PRECONDITION, refused or expired credentials PERMISSION_DENIED, what a later attempt may
// mend UNAVAILABLE. `what` names store, object and operation.
absl::Status FromArrow(const arrow::Status& status, std::string_view what);

}  // namespace secateur
