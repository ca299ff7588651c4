// WatchOperation: the present state, each change, a heartbeat, the end.
#include <memory>
#include <optional>
#include <utility>

#include <grpcpp/alarm.h>

#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/jobs/operation_errors.h"
#include "server/service/convert.h"
#include "server/service/names.h"
#include "server/service/secateur_service.h"

namespace secateur {
namespace {

constexpr std::chrono::seconds kHeartbeat(15);

// Keeps itself alive until gRPC is done with it and no timer can call it any more. One write is
// under way at a time; what changes meanwhile replaces what waits, so a slow client gets the newest
// state.
class WatchReactor final : public grpc::ServerWriteReactor<v1::WatchOperationResponse>,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  explicit WatchReactor(ServiceParts parts) : parts_(parts), start_(absl::Now()) {}

  void Start(const v1::WatchOperationRequest& request) {
    self_ = shared_from_this();
    const absl::Status status = Find(request);
    if (!status.ok()) End(status);
  }

  void OnWriteDone(bool ok) override {
    absl::Status end;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      end = end_;
      if (!ok || cancelled_) {
        end = absl::CancelledError("the client went away");
      } else if (waiting_) {
        return WriteNext();
      } else if (!last_) {
        return ArmHeartbeat();
      }
    }
    End(end);
  }
  void OnCancel() override {
    {
      MutexLock lock(mutex_);
      cancelled_ = true;
      if (writing_) return;  // its OnWriteDone follows, and only then may the call finish
    }
    End(absl::CancelledError("the client went away"));
  }
  void OnDone() override { self_.reset(); }

 private:
  absl::Status Find(const v1::WatchOperationRequest& request) {
    RETURN_IF_ERROR(CheckAllFieldsKnown(request));
    ASSIGN_OR_RETURN(const std::string id, ParseOperationName(request.name(), "name"));
    const absl::Status known = Attach(id);
    if (!absl::IsNotFound(known)) return known;
    // Another server's: the store is asked, which is not for gRPC's threads.
    const bool posted = parts_.calls.Post([self = self_, id] {
      absl::Status status = self->parts_.jobs.Get(id).status();
      if (status.ok()) status = self->Attach(id);
      if (!status.ok()) self->End(status);
    });
    return posted ? absl::OkStatus() : CallRunner::Overloaded();
  }

  absl::Status Attach(const std::string& id) {
    ASSIGN_OR_RETURN(const int64_t ticket,
                     parts_.jobs.Observe(id, [this](const Operation& now) { Take(now); }));
    bool ended = false;
    {
      MutexLock lock(mutex_);
      ticket_ = ticket;
      ended = ended_;
    }
    if (ended) parts_.jobs.Unobserve(ticket);  // the client went away meanwhile
    return absl::OkStatus();
  }

  void Take(const Operation& operation) {
    MutexLock lock(mutex_);
    if (ended_ || cancelled_) return;
    newest_ = ToProto(operation);
    last_ = newest_.done() || operation.suspended;
    if (operation.suspended) end_ = SuspendedError(operation.id);
    waiting_ = true;
    if (!writing_) WriteNext();
  }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    waiting_ = false;
    writing_ = true;
    *message_.mutable_operation() = newest_;
    StartWrite(&message_);
  }

  void ArmHeartbeat() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_) return;
    alarm_.emplace();
    alarm_->Set(std::chrono::system_clock::now() + kHeartbeat, [self = self_](bool fired) {
      if (!fired) return;
      MutexLock lock(self->mutex_);
      if (!self->ended_ && !self->cancelled_ && !self->writing_) self->WriteNext();
    });
  }

  // Once; later calls do nothing. The observer is gone before gRPC may be done with this.
  void End(const absl::Status& status) {
    int64_t ticket = 0;
    {
      MutexLock lock(mutex_);
      if (std::exchange(ended_, true)) return;
      ticket = ticket_;
      alarm_.reset();
    }
    parts_.jobs.Unobserve(ticket);
    parts_.calls.Count("WatchOperation", status, start_);
    Finish(ToGrpcStatus(status));
  }

  const ServiceParts parts_;
  const absl::Time start_;
  std::shared_ptr<WatchReactor> self_;

  Mutex mutex_;
  v1::WatchOperationResponse message_ ABSL_GUARDED_BY(mutex_);
  google::longrunning::Operation newest_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  absl::Status end_ ABSL_GUARDED_BY(mutex_);  // after the last message
  int64_t ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool last_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchOperationResponse>* SecateurService::WatchOperation(
    Context*, const v1::WatchOperationRequest* request) {
  auto reactor = std::make_shared<WatchReactor>(parts_);
  reactor->Start(*request);
  return reactor.get();
}

}  // namespace secateur
