#include "client/status.h"

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace secateur {
namespace {

absl::StatusCode CodeOf(int code) {
  const bool known = code >= 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

void AddPayloads(const google::rpc::Status& from, absl::Status& to) {
  for (const google::protobuf::Any& detail : from.details()) {
    to.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
}

// The detail of type `Detail` when it is there and parses.
template <class Detail>
std::optional<Detail> Find(const absl::Status& status) {
  const auto payload =
      status.GetPayload("type.googleapis.com/" + Detail::descriptor()->full_name());
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

void ReadViolations(const absl::Status& status, StatusDetails& details) {
  if (const auto bad = Find<google::rpc::BadRequest>(status)) {
    for (const auto& violation : bad->field_violations()) {
      details.fields.push_back({violation.field(), violation.description()});
    }
  }
  if (const auto precondition = Find<google::rpc::PreconditionFailure>(status)) {
    for (const auto& violation : precondition->violations()) {
      details.violations.push_back(violation.description());
    }
  }
  if (const auto quota = Find<google::rpc::QuotaFailure>(status)) {
    for (const auto& violation : quota->violations()) {
      details.violations.push_back(violation.description());
    }
  }
}

}  // namespace

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status out(CodeOf(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) AddPayloads(details, out);
  return out;
}

absl::Status FromRpcStatus(const google::rpc::Status& status) {
  if (status.code() == 0) return absl::OkStatus();
  absl::Status out(CodeOf(status.code()), status.message());
  AddPayloads(status, out);
  return out;
}

StatusDetails DetailsOfStatus(const absl::Status& status) {
  StatusDetails details;
  if (const auto info = Find<google::rpc::ErrorInfo>(status)) {
    details.reason = info->reason();
    details.domain = info->domain();
    details.metadata.insert(info->metadata().begin(), info->metadata().end());
  }
  ReadViolations(status, details);
  if (const auto resource = Find<google::rpc::ResourceInfo>(status)) {
    details.resource_type = resource->resource_type();
    details.resource_name = resource->resource_name();
  }
  if (const auto retry = Find<google::rpc::RetryInfo>(status)) {
    details.retry_after = absl::Seconds(retry->retry_delay().seconds()) +
                          absl::Nanoseconds(retry->retry_delay().nanos());
  }
  return details;
}

}  // namespace secateur
