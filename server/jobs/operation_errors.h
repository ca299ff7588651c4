// What callers are told about operations that are not there, or not to be had now.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace secateur {

// NOT_FOUND, with the resource.
absl::Status OperationNotFound(const std::string& id);
// UNAVAILABLE, reason DRAINING, with a time to try again: of new work while the server shuts down;
// and of an operation that another server goes on with.
absl::Status DrainingError();
absl::Status SuspendedError(const std::string& id);
// RESOURCE_EXHAUSTED, reason QUEUE_DEADLINE, with a time to try again under another request_id: the
// end of an operation that no worker took within `limit`.
absl::Status QueueDeadlineError(absl::Duration waited, absl::Duration limit);

}  // namespace secateur
