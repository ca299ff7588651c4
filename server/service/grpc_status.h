// Our errors as gRPC's: google.rpc.Status with ErrorInfo (domain "secateur.dev", a reason from the
// table in proto/README.md) and the detail that fits, in the status details of the call.
#pragma once

#include <string>
#include <vector>

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace secateur {

google::rpc::Status ToRpcStatus(const absl::Status& status);
grpc::Status ToGrpcStatus(const absl::Status& status);

// Every reason an error can carry, what it means and what a client does: proto/README.md prints it.
struct ErrorReason {
  const char* reason;
  absl::StatusCode code;
  const char* meaning;
  const char* remedy;
};
const std::vector<ErrorReason>& ErrorReasons();

}  // namespace secateur
