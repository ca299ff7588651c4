// Errors of RPCs as absl::Status. The code and the message are the server's; each google.rpc detail
// becomes a payload: its type URL, and the serialized message. gRPC 1.51 converts neither. All
// functions are pure; details that do not parse are left out, never an error of their own.
#pragma once

#include <grpcpp/support/status.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace google::rpc {
class Status;
}

namespace secateur {

// The status of a call. Codes that Abseil does not know become kUnknown.
absl::Status FromGrpcStatus(const grpc::Status& status);
// google.longrunning.Operation.error, and the trailer that carries details.
absl::Status FromRpcStatus(const google::rpc::Status& status);

// google.rpc details, read back from the payloads. Empty where the server sent none.
struct StatusDetails {
  struct FieldViolation {
    std::string field;        // path in the request: "spec.budget.neuron_ratio"
    std::string description;  // what is wrong with it
  };
  // ErrorInfo.
  std::string reason;  // UPPER_SNAKE, stable: "BUDGET_NOT_REACHABLE"
  std::string domain;  // "secateur.dev"
  std::map<std::string, std::string> metadata;
  // BadRequest.
  std::vector<FieldViolation> fields;
  // Descriptions in PreconditionFailure and QuotaFailure.
  std::vector<std::string> violations;
  // ResourceInfo.
  std::string resource_type, resource_name;
  // RetryInfo.
  std::optional<absl::Duration> retry_after;
};
StatusDetails DetailsOfStatus(const absl::Status& status);

}  // namespace secateur
