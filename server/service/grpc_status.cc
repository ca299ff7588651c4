#include "server/service/grpc_status.h"

#include "google/rpc/error_details.pb.h"
#include "server/base/errors.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

using Code = absl::StatusCode;

// A status travels in HTTP/2 headers, whose default limit is 8 KiB in all: the message itself,
// where other than ASCII takes three bytes for one, and in base64 up to three copies of it in the
// details.
constexpr size_t kMaxMessage = 1024;
constexpr absl::Duration kRetryDelay = absl::Seconds(1);

// What fits, as the UTF-8 that protos must hold: a message may quote a part of a client's bytes.
std::string MessageOf(const absl::Status& status) {
  std::string text(status.message().substr(0, kMaxMessage));
  while (const auto bad = FirstInvalidUtf8(text)) text[*bad] = '?';
  return text;
}

std::string ReasonFor(const absl::Status& status, const ErrorNotes& notes) {
  return notes.reason.empty() ? absl::StatusCodeToString(status.code()) : notes.reason;
}

}  // namespace

const std::vector<ErrorReason>& ErrorReasons() {
  static const std::vector<ErrorReason> reasons = {
      {"ALREADY_EXISTS", Code::kAlreadyExists, "the name or place is taken by something else",
       "use what is there, or another place"},
      {"ABORTED", Code::kAborted,
       "the etag is not the present one, or an expert's files went while it was made",
       "read again, then retry; an expert with another request_id"},
      {"BUDGET_NOT_REACHABLE", Code::kOutOfRange, "no aligned width meets the budget",
       "use the nearest value in the message"},
      {"CANCELLED", Code::kCancelled, "the operation was cancelled", "nothing"},
      {"DATA_LOSS", Code::kDataLoss, "stored bytes do not match their digest, or a check failed",
       "tell the operator; profiles and experts can be made again"},
      {"DISK_RESERVED", Code::kResourceExhausted,
       "accepted operations may write what room there is on disk", "back off (RetryInfo)"},
      {"DRAINING", Code::kUnavailable, "the server is shutting down", "try again elsewhere"},
      {"EXPIRED", Code::kFailedPrecondition,
       "the `expire_time` of a request passed before the expert was published",
       "ask again with a later one, or with a `ttl`, which counts from publishing"},
      {"FAILED_PRECONDITION", Code::kFailedPrecondition, "something must be done first",
       "do what the message says"},
      {"GATE_NOT_MET", Code::kFailedPrecondition,
       "an expert rises by more bits per byte than the request's gate allows",
       "cut less, or allow more; the violations name corpora, measured and allowed values"},
      {"INTERNAL", Code::kInternal, "a bug, or a library failed", "tell the operator"},
      {"INVALID_ARGUMENT", Code::kInvalidArgument, "a field is malformed or out of range",
       "fix the field named in BadRequest"},
      {"MEMORY_RESERVED", Code::kResourceExhausted,
       "accepted operations may take what memory there is", "back off (RetryInfo)"},
      {"NOT_FOUND", Code::kNotFound, "there is no such resource", "check the name"},
      {"NO_CORPUS_FOR_CELL", Code::kFailedPrecondition, "no corpus carries all selected labels",
       "use source COMPOSE or AUTO"},
      {"NO_CORPUS_FOR_LABEL", Code::kFailedPrecondition, "no calibration corpus carries a label",
       "upload one, or use a known value from the message"},
      {"NOT_HONOURED", Code::kUnimplemented, "this server does not honour a field or value",
       "leave it out"},
      {"NOT_MADE_YET", Code::kFailedPrecondition, "ONLY_IF_CACHED, and there is no such expert",
       "use cache policy USE"},
      {"OUT_OF_RANGE", Code::kOutOfRange, "a position is past the end", "use one inside"},
      {"PERMISSION_DENIED", Code::kPermissionDenied, "the operator does not allow this URI",
       "use the store, or ask for --allow-read or --allow-write"},
      {"PROFILE_MISSING", Code::kFailedPrecondition, "a corpus has no profile yet",
       "call CreateProfile, or CreateExpert, which makes them"},
      {"QUANTILE_NOT_KEPT", Code::kOutOfRange,
       "profiles keep too few ranks of a neuron for that quantile of so many documents",
       "use the least quantile in the message"},
      {"QUEUE_DEADLINE", Code::kResourceExhausted, "no worker took the operation in time",
       "back off (RetryInfo), then ask again with another request_id"},
      {"QUEUE_FULL", Code::kResourceExhausted, "too many operations wait", "back off (RetryInfo)"},
      {"REQUEST_ID_REUSED", Code::kInvalidArgument, "a request_id came with another request",
       "use a new id"},
      {"RESOURCE_EXHAUSTED", Code::kResourceExhausted, "a limit, the memory or the disk is used up",
       "make it smaller, or free some"},
      {"STARTING", Code::kUnavailable, "the model is still being loaded", "try again (RetryInfo)"},
      {"STORE_FULL", Code::kResourceExhausted, "the store's disk is nearly full",
       "tell the operator, or delete experts"},
      {"TENANT_QUOTA", Code::kResourceExhausted, "the tenant has as many operations as it may have",
       "wait for one to end (RetryInfo), or cancel one"},
      {"TOO_LARGE", Code::kResourceExhausted,
       "the operation takes more memory or disk than all together may have",
       "ask for less, or tell the operator"},
      {"UNAVAILABLE", Code::kUnavailable, "the store or the server does not answer now",
       "try again"},
      {"UNIMPLEMENTED", Code::kUnimplemented, "this server cannot do it", "leave it out"},
  };
  return reasons;
}

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  if (status.ok()) return out;
  out.set_message(MessageOf(status));
  ErrorNotes notes = NotesOf(status);
  if (status.code() == Code::kUnavailable && !notes.retry_after) notes.retry_after = kRetryDelay;
  google::rpc::ErrorInfo info;
  info.set_reason(ReasonFor(status, notes));
  info.set_domain("secateur.dev");
  if (!notes.field.empty()) (*info.mutable_metadata())["field"] = notes.field;
  out.add_details()->PackFrom(info);
  if (!notes.field.empty() && status.code() != Code::kFailedPrecondition) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(notes.field);
    violation->set_description(out.message());
    out.add_details()->PackFrom(bad);
  }
  if (status.code() == Code::kFailedPrecondition) {
    google::rpc::PreconditionFailure failure;
    if (notes.violations.empty()) {
      notes.violations.push_back(
          {notes.field.empty() ? notes.resource_name : notes.field, out.message()});
    }
    for (const ErrorNotes::Violation& one : notes.violations) {
      auto* violation = failure.add_violations();
      violation->set_type(info.reason());
      violation->set_subject(one.subject);
      violation->set_description(one.description);
    }
    out.add_details()->PackFrom(failure);
  }
  if (status.code() == Code::kResourceExhausted) {
    google::rpc::QuotaFailure failure;
    if (notes.violations.empty()) notes.violations.push_back({"server", out.message()});
    for (const ErrorNotes::Violation& one : notes.violations) {
      auto* violation = failure.add_violations();
      violation->set_subject(one.subject);
      violation->set_description(one.description);
    }
    out.add_details()->PackFrom(failure);
  }
  if (notes.retry_after) {
    google::rpc::RetryInfo retry;
    const int64_t millis = absl::ToInt64Milliseconds(*notes.retry_after);
    retry.mutable_retry_delay()->set_seconds(millis / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(millis % 1000) * 1'000'000);
    out.add_details()->PackFrom(retry);
  }
  if (!notes.resource_type.empty()) {
    google::rpc::ResourceInfo resource;
    resource.set_resource_type(notes.resource_type);
    resource.set_resource_name(notes.resource_name);
    resource.set_description(out.message());
    out.add_details()->PackFrom(resource);
  }
  return out;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status rpc = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(rpc.code()), rpc.message(),
                      rpc.SerializeAsString());
}

}  // namespace secateur
