// Arrow's statuses in our words. Private to object storage.
#pragma once

#include <arrow/status.h>

#include <exception>
#include <string_view>

#include "absl/status/status.h"

namespace secateur {

// "what: what Arrow says", on one line. Arrow keeps the store's own code and request id in its
// text, of which the code is made: missing objects are NOT_FOUND, a missing bucket and a clock that
// is off FAILED_PRECONDITION, refused or expired credentials PERMISSION_DENIED, what a later
// attempt may mend UNAVAILABLE. `what` names store, object and operation.
absl::Status FromArrow(const arrow::Status& status, std::string_view what);

// What `call` returns, an arrow::Status or arrow::Result. Azure's client throws at answers that it
// cannot read, such as a proxy's page in HTML.
template <class Call>
auto CallArrow(const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::exception& error) {
    return arrow::Status::IOError("the answer is not understood: ", error.what());
  }
}

}  // namespace secateur
