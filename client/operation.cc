#include "client/operation.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace secateur {
namespace {

using google::longrunning::Operation;

// A stream is renewed this often, so that a connection that died in silence is noticed.
constexpr absl::Duration kStreamLimit = absl::Minutes(2);
// How long one WaitOperation may hold back its answer.
constexpr absl::Duration kPollLimit = absl::Seconds(20);

// Attaching again cannot help.
bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

// One Wait: the state that its attempts share.
class Waiter {
 public:
  Waiter(const ClientConnection& connection, const std::string& name, const WaitOptions& options)
      : connection_(connection), name_(name), options_(options), pause_(options.first_pause) {}

  absl::StatusOr<Operation> Run() {
    bool can_watch = true;
    for (;;) {
      const absl::Status broken = can_watch ? Watch() : Poll();
      if (done_.has_value()) return *std::move(done_);
      if (options_.stop.stop_requested()) {
        return absl::CancelledError(absl::StrCat("stopped waiting for ", name_, "; it goes on"));
      }
      if (can_watch && absl::IsUnimplemented(broken)) {
        can_watch = false;
        continue;
      }
      if (IsFinal(broken)) return broken;
      if (absl::Now() - last_word_ > options_.patience) return GiveUp(broken);
      if (!broken.ok()) Pause();
    }
  }

 private:
  // Follows one stream to its end; `done_` is set if the operation ended.
  absl::Status Watch() {
    grpc::ClientContext context;
    connection_.Prepare(context, kStreamLimit);
    const std::stop_callback cancel(options_.stop, [&context] { context.TryCancel(); });
    v1::WatchOperationRequest request;
    request.set_name(name_);
    const auto reader = connection_.secateur->WatchOperation(&context, request);
    v1::WatchOperationResponse response;
    while (reader->Read(&response)) {
      Hear(response.operation());
      pause_ = options_.first_pause;
    }
    const absl::Status status = FromGrpcStatus(reader->Finish());
    return status.ok() ? absl::UnavailableError("the stream ended before the operation") : status;
  }

  absl::Status Poll() {
    grpc::ClientContext context;
    connection_.Prepare(context, kPollLimit + connection_.options.deadline);
    const std::stop_callback cancel(options_.stop, [&context] { context.TryCancel(); });
    google::longrunning::WaitOperationRequest request;
    request.set_name(name_);
    request.mutable_timeout()->set_seconds(absl::ToInt64Seconds(kPollLimit));
    Operation operation;
    const absl::Time start = absl::Now();
    const absl::Status status =
        FromGrpcStatus(connection_.operations->WaitOperation(&context, request, &operation));
    if (!status.ok()) return status;
    Hear(operation);
    // WaitOperation may answer early; without a pause that would be a busy loop.
    const bool early = !done_.has_value() && absl::Now() - start < options_.last_pause;
    return early ? absl::UnavailableError("the operation is not done") : absl::OkStatus();
  }

  void Hear(const Operation& operation) {
    last_word_ = absl::Now();
    if (options_.progress) options_.progress(operation);
    if (operation.done()) done_ = operation;
  }

  void Pause() {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, options_.stop, absl::ToChronoNanoseconds(pause_), [] { return false; });
    pause_ = std::min(2 * pause_, options_.last_pause);
  }

  absl::Status GiveUp(const absl::Status& broken) const {
    return absl::UnavailableError(
        absl::StrCat("no word of ", name_, " from ", connection_.options.address, " for ",
                     absl::FormatDuration(options_.patience), " (", std::string(broken.message()),
                     "); it may be going on there: attach again by its name"));
  }

  const ClientConnection& connection_;
  const std::string& name_;
  const WaitOptions& options_;
  absl::Duration pause_;
  absl::Time last_word_ = absl::Now();
  std::optional<Operation> done_;
};

}  // namespace

absl::StatusOr<Operation> OperationHandle::Get() const {
  google::longrunning::GetOperationRequest request;
  request.set_name(name());
  return Unary(*connection_, *connection_->operations,
               &google::longrunning::Operations::StubInterface::GetOperation, request);
}

absl::Status OperationHandle::Cancel() const {
  google::longrunning::CancelOperationRequest request;
  request.set_name(name());
  return Unary(*connection_, *connection_->operations,
               &google::longrunning::Operations::StubInterface::CancelOperation, request)
      .status();
}

absl::StatusOr<Operation> OperationHandle::Wait(const WaitOptions& options) const {
  if (latest_.done()) return latest_;
  return Waiter(*connection_, name(), options).Run();
}

v1::OperationMetadata MetadataOf(const Operation& operation) {
  v1::OperationMetadata metadata;
  if (!operation.metadata().UnpackTo(&metadata)) metadata.Clear();
  return metadata;
}

absl::Status ErrorOf(const Operation& operation) {
  if (operation.has_response()) return absl::OkStatus();
  if (operation.has_error() && operation.error().code() != 0) {
    return FromRpcStatus(operation.error());
  }
  return absl::InternalError(
      absl::StrCat(operation.name(), " has neither a response nor an error"));
}

absl::Status WrongResponseError(const Operation& operation, const std::string& wanted) {
  return absl::InternalError(absl::StrCat(operation.name(), " returned ",
                                          operation.response().type_url(), " where ", wanted,
                                          " was expected"));
}

}  // namespace secateur
