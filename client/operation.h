// A long operation of the server, as its caller holds it. The work goes on whether or not anyone
// waits; a handle is only a name and a connection, so it can be copied, dropped and made again from
// the name (SecateurClient::AttachOperation). All calls are thread-safe and may overlap.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/connection.h"
#include "google/longrunning/operations.pb.h"
#include "secateur/v1/operation.pb.h"

namespace secateur {

struct WaitOptions {
  // Called on the waiting thread with each state heard of, heartbeats included; MetadataOf tells
  // more of it. May be empty.
  std::function<void(const google::longrunning::Operation&)> progress;
  // Ends the wait, not the operation: Wait returns CANCELLED.
  std::stop_token stop;
  // Pauses before attaching again after a broken stream; they double from first to last.
  absl::Duration first_pause = absl::Milliseconds(200);
  absl::Duration last_pause = absl::Seconds(10);
  // How long the server may be silent or away until Wait gives up with UNAVAILABLE.
  absl::Duration patience = absl::Minutes(5);
};

class OperationHandle {
 public:
  // `latest` has a name; when it is done already, Wait makes no call.
  OperationHandle(std::shared_ptr<const ClientConnection> connection,
                  google::longrunning::Operation latest)
      : connection_(std::move(connection)), latest_(std::move(latest)) {}

  // `operations/{operation}`.
  const std::string& name() const { return latest_.name(); }
  // The operation as it was when this handle was made.
  const google::longrunning::Operation& latest() const { return latest_; }

  // The operation as it is now. Errors: NOT_FOUND.
  absl::StatusOr<google::longrunning::Operation> Get() const;
  // Asks the server to stop the work; the operation then ends with CANCELLED, unless it was faster.
  // Errors: NOT_FOUND.
  absl::Status Cancel() const;
  // Waits until the operation is done, whatever the result is, and returns it. Follows
  // WatchOperation, attaches again when the stream breaks, and polls WaitOperation where a server
  // has no WatchOperation. Errors: NOT_FOUND (the server has forgotten it), PERMISSION_DENIED,
  // UNAUTHENTICATED, UNAVAILABLE (`patience` is over), CANCELLED (`stop` was requested).
  absl::StatusOr<google::longrunning::Operation> Wait(const WaitOptions& options = {}) const;

 private:
  std::shared_ptr<const ClientConnection> connection_;
  google::longrunning::Operation latest_;
};

// State and progress; empty when the server sent none.
v1::OperationMetadata MetadataOf(const google::longrunning::Operation& operation);
// The error of a done operation; INTERNAL when it has neither error nor response; else OK.
absl::Status ErrorOf(const google::longrunning::Operation& operation);
// INTERNAL: the response is not of the type that the method promises.
absl::Status WrongResponseError(const google::longrunning::Operation& operation,
                                const std::string& wanted);

// The response of a done operation, or its error.
template <class Result>
absl::StatusOr<Result> ResultOf(const google::longrunning::Operation& operation) {
  if (absl::Status error = ErrorOf(operation); !error.ok()) return error;
  Result result;
  if (operation.response().UnpackTo(&result)) return result;
  return WrongResponseError(operation, Result::descriptor()->full_name());
}

// An operation that returns a Result.
template <class Result>
class PendingOperation : public OperationHandle {
 public:
  using OperationHandle::OperationHandle;

  // Waits, then the result or the operation's own error. Errors also as Wait.
  absl::StatusOr<Result> WaitForResult(const WaitOptions& options = {}) const {
    auto done = Wait(options);
    if (!done.ok()) return std::move(done).status();
    return ResultOf<Result>(*done);
  }
};

}  // namespace secateur
