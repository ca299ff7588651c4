// Waiting for operations at a terminal.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/cli/context.h"
#include "client/operation.h"

namespace secateur::cli {

// Waits until the operation is done, with a progress bar on a terminal. Errors: as
// OperationHandle::Wait; and CANCELLED with exit code 130 after Ctrl-C, with a message that says
// how to attach again.
absl::StatusOr<google::longrunning::Operation> WaitWithBar(const OperationHandle& operation,
                                                           const Context& context);
// The same with a callback of the caller's instead of the bar.
absl::StatusOr<google::longrunning::Operation> WaitUntilInterrupted(
    const OperationHandle& operation, WaitOptions options);

// OK, or the error of a done operation with exit code 7.
absl::Status OutcomeOf(const google::longrunning::Operation& operation);

// The result of an operation that was started with a request: waits, then unpacks.
template <class Result>
absl::StatusOr<Result> WaitForResult(const PendingOperation<Result>& operation,
                                     const Context& context) {
  const auto done = WaitWithBar(operation, context);
  if (!done.ok()) return done.status();
  if (absl::Status outcome = OutcomeOf(*done); !outcome.ok()) return outcome;
  return ResultOf<Result>(*done);
}

}  // namespace secateur::cli
