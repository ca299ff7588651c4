#include "server/service/call.h"

#include "server/base/errors.h"
#include "server/base/log.h"

namespace secateur {
namespace {

// Lives until gRPC is done with the call, which is not before Finish().
class UnaryReactor final : public grpc::ServerUnaryReactor {
 public:
  RunContext& run() { return run_; }
  void OnCancel() override { run_.Cancel(); }
  void OnDone() override { delete this; }

 private:
  RunContext run_;
};

}  // namespace

grpc::ServerUnaryReactor* CallRunner::RunOn(Pool& pool, std::string_view method,
                                            const google::protobuf::Message& request,
                                            std::function<absl::Status(RunContext& run)> work) {
  const absl::Time start = absl::Now();
  auto* reactor = new UnaryReactor;
  const auto run = [this, reactor, method, &request, start, work = std::move(work)] {
    absl::Status status = reactor->run().CheckCancelled();
    if (status.ok()) status = CheckAllFieldsKnown(request);
    if (status.ok()) status = work(reactor->run());
    Count(method, status, start);
    reactor->Finish(ToGrpcStatus(status));
  };
  if (!pool.Post(run)) {
    Count(method, Overloaded(), start);
    reactor->Finish(ToGrpcStatus(Overloaded()));
  }
  return reactor;
}

grpc::ServerUnaryReactor* CallRunner::Unary(grpc::CallbackServerContext*, std::string_view method,
                                            const google::protobuf::Message& request,
                                            std::function<absl::Status()> work) {
  return RunOn(pool_, method, request, [work = std::move(work)](RunContext&) { return work(); });
}

grpc::ServerUnaryReactor* CallRunner::LongUnary(grpc::CallbackServerContext*,
                                                std::string_view method,
                                                const google::protobuf::Message& request,
                                                std::function<absl::Status(RunContext& run)> work) {
  return RunOn(long_pool_, method, request, std::move(work));
}

grpc::ServerUnaryReactor* CallRunner::DeviceUnary(
    grpc::CallbackServerContext*, std::string_view method, const google::protobuf::Message& request,
    std::function<absl::Status(RunContext& run)> work) {
  return RunOn(device_pool_, method, request, std::move(work));
}

bool CallRunner::Pool::Post(std::function<void()> step) {
  if (pending_.fetch_add(1) >= max_pending_) {
    pending_.fetch_sub(1);
    return false;
  }
  pool_.Add([this, step = std::move(step)] {
    step();
    pending_.fetch_sub(1);
  });
  return true;
}

void CallRunner::Count(std::string_view method, const absl::Status& status, absl::Time start) {
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  metrics_.CountRpc(method, status.code(), seconds);
  Log(status.ok() ? LogLevel::kDebug : LogLevel::kInfo, "call",
      {{"method", method},
       {"code", absl::StatusCodeToString(status.code())},
       {"seconds", seconds},
       {"error", std::string(status.message())}});
}

absl::Status CallRunner::Overloaded() {
  return WithReason(
      WithRetryAfter(absl::ResourceExhaustedError("too many calls are under way: try again"),
                     absl::Seconds(1)),
      "QUEUE_FULL");
}

}  // namespace secateur
