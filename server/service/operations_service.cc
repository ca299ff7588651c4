#include "server/service/operations_service.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include <grpcpp/alarm.h>

#include "absl/strings/str_format.h"
#include "server/base/errors.h"
#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/operation_errors.h"
#include "server/service/convert.h"
#include "server/service/names.h"
#include "server/service/paging.h"

namespace secateur {
namespace {

namespace lro = google::longrunning;

constexpr int64_t kMaxWaitSeconds = 60;

// Newest first, as a key that ascends.
std::string AgeKey(const Operation& operation) {
  return absl::StrFormat(
      "%020d%s", int64_t{4'000'000'000'000'000'000} - absl::ToUnixNanos(operation.create_time),
      operation.id);
}

// Finishes when the operation is done, when the time is up, or when the client goes away: once.
class WaitReactor final : public grpc::ServerUnaryReactor,
                          public std::enable_shared_from_this<WaitReactor> {
 public:
  WaitReactor(JobQueue& jobs, CallRunner& calls, lro::Operation* response)
      : jobs_(jobs), calls_(calls), start_(absl::Now()), response_(response) {}

  void Start(const lro::WaitOperationRequest& request) {
    self_ = shared_from_this();
    const absl::Status status = Find(request);
    if (!status.ok()) End(status);
  }
  void OnCancel() override { End(absl::CancelledError("the client went away")); }
  void OnDone() override { self_.reset(); }

 private:
  absl::Status Find(const lro::WaitOperationRequest& request) {
    RETURN_IF_ERROR(CheckAllFieldsKnown(request));
    ASSIGN_OR_RETURN(const std::string id, ParseOperationName(request.name(), "name"));
    const auto wait = TimeoutOf(request);
    const absl::Status known = Attach(id, wait);
    if (!absl::IsNotFound(known)) return known;
    // Another server's: the store is asked, which is not for gRPC's threads.
    const bool posted = calls_.Post([self = self_, id, wait] {
      absl::Status status = self->jobs_.Get(id).status();
      if (status.ok()) status = self->Attach(id, wait);
      if (!status.ok()) self->End(status);
    });
    return posted ? absl::OkStatus() : CallRunner::Overloaded();
  }

  absl::Status Attach(const std::string& id, std::chrono::nanoseconds wait) {
    bool done = false;
    bool ended = false;
    ASSIGN_OR_RETURN(const int64_t ticket,
                     jobs_.Observe(id, [this](const Operation& now) { Take(now); }));
    {
      MutexLock lock(mutex_);
      ticket_ = ticket;
      done = done_;
      ended = ended_;
      if (!done && !ended) ArmTimer(wait);
    }
    if (ended) {
      jobs_.Unobserve(ticket);  // the client went away meanwhile
    } else if (done) {
      EndAsSeen();
    }
    return absl::OkStatus();
  }

  static std::chrono::nanoseconds TimeoutOf(const lro::WaitOperationRequest& request) {
    if (!request.has_timeout()) return std::chrono::seconds(kMaxWaitSeconds);
    return std::chrono::seconds(
               std::clamp<int64_t>(request.timeout().seconds(), 0, kMaxWaitSeconds)) +
           std::chrono::nanoseconds(std::max(request.timeout().nanos(), 0));
  }

  void ArmTimer(std::chrono::nanoseconds wait) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    alarm_.emplace();
    alarm_->Set(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(wait),
                [self = self_](bool fired) {
                  if (fired) self->EndAsSeen();
                });
    armed_ = true;
  }

  void Take(const Operation& operation) {
    MutexLock lock(mutex_);
    if (ended_) return;
    newest_ = ToProto(operation);
    done_ = newest_.done() || operation.suspended;
    if (operation.suspended) end_ = SuspendedError(operation.id);
    // The queue's lock is held here: the end comes from a timer that is due now.
    if (done_ && armed_) {
      alarm_.emplace();
      alarm_->Set(std::chrono::system_clock::now(), [self = self_](bool fired) {
        if (fired) self->EndAsSeen();
      });
    }
  }

  void EndAsSeen() {
    absl::Status status;
    {
      MutexLock lock(mutex_);
      status = end_;
    }
    End(status);
  }

  void End(const absl::Status& status) {
    int64_t ticket = 0;
    {
      MutexLock lock(mutex_);
      if (std::exchange(ended_, true)) return;
      ticket = ticket_;
      alarm_.reset();
      *response_ = newest_;
    }
    jobs_.Unobserve(ticket);
    calls_.Count("WaitOperation", status, start_);
    Finish(ToGrpcStatus(status));
  }

  JobQueue& jobs_;
  CallRunner& calls_;
  const absl::Time start_;
  lro::Operation* const response_;
  std::shared_ptr<WaitReactor> self_;

  Mutex mutex_;
  lro::Operation newest_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  int64_t ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  bool armed_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

OperationsService::Reactor* OperationsService::ListOperations(
    Context* context, const lro::ListOperationsRequest* request,
    lro::ListOperationsResponse* response) {
  return calls_.Unary(
      context, "ListOperations", *request, [this, request, response]() -> absl::Status {
        if (!request->name().empty() && request->name() != "operations") {
          return WithField(absl::InvalidArgumentError("name is not \"operations\""), "name");
        }
        if (!request->filter().empty()) return NotHonoured("filter", "operations have no filter");
        std::vector<Operation> operations = jobs_.List();
        std::sort(operations.begin(), operations.end(), [](const Operation& a, const Operation& b) {
          return AgeKey(a) < AgeKey(b);  // clocks may stand still or step back
        });
        ASSIGN_OR_RETURN(const auto page, Paginate(std::move(operations), request->page_size(),
                                                   request->page_token(), AgeKey));
        for (const Operation& operation : page.items)
          *response->add_operations() = ToProto(operation);
        response->set_next_page_token(page.next_page_token);
        return absl::OkStatus();
      });
}

OperationsService::Reactor* OperationsService::GetOperation(Context* context,
                                                            const lro::GetOperationRequest* request,
                                                            lro::Operation* response) {
  return calls_.Unary(
      context, "GetOperation", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const std::string id, ParseOperationName(request->name(), "name"));
        ASSIGN_OR_RETURN(const Operation operation, jobs_.Get(id));
        *response = ToProto(operation);
        return absl::OkStatus();
      });
}

OperationsService::Reactor* OperationsService::DeleteOperation(
    Context* context, const lro::DeleteOperationRequest* request, google::protobuf::Empty*) {
  return calls_.Unary(context, "DeleteOperation", *request, [this, request]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::string id, ParseOperationName(request->name(), "name"));
    return jobs_.Delete(id);
  });
}

OperationsService::Reactor* OperationsService::CancelOperation(
    Context* context, const lro::CancelOperationRequest* request, google::protobuf::Empty*) {
  return calls_.Unary(context, "CancelOperation", *request, [this, request]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::string id, ParseOperationName(request->name(), "name"));
    return jobs_.Cancel(id);
  });
}

OperationsService::Reactor* OperationsService::WaitOperation(
    Context*, const lro::WaitOperationRequest* request, lro::Operation* response) {
  auto reactor = std::make_shared<WaitReactor>(jobs_, calls_, response);
  reactor->Start(*request);
  return reactor.get();
}

}  // namespace secateur
