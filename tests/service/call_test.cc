#include "server/service/call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "secateur/v1/secateur.grpc.pb.h"

namespace secateur {
namespace {

// A server whose PlanExpert, a long call, works until its run is cancelled, as does
// CompareDimensions, a call for the device; GetModel and CreateExpert, a long call, do nothing.
class EndlessService final : public v1::Secateur::CallbackService {
 public:
  EndlessService() : calls_(/*threads=*/1, /*max_pending=*/8, metrics_) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~EndlessService() override { server_->Shutdown(); }

  grpc::ServerUnaryReactor* PlanExpert(grpc::CallbackServerContext* context,
                                       const v1::PlanExpertRequest* request,
                                       v1::PlanExpertResponse*) override {
    return calls_.LongUnary(context, "PlanExpert", *request,
                            [this](RunContext& run) { return WorkOn(run); });
  }
  grpc::ServerUnaryReactor* CompareDimensions(grpc::CallbackServerContext* context,
                                              const v1::CompareDimensionsRequest* request,
                                              v1::CompareDimensionsResponse*) override {
    return calls_.DeviceUnary(context, "CompareDimensions", *request,
                              [this](RunContext& run) { return WorkOn(run); });
  }
  grpc::ServerUnaryReactor* CreateExpert(grpc::CallbackServerContext* context,
                                         const v1::CreateExpertRequest* request,
                                         google::longrunning::Operation*) override {
    return calls_.LongUnary(context, "CreateExpert", *request,
                            [](RunContext&) { return absl::OkStatus(); });
  }
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request, v1::Model*) override {
    return calls_.Unary(context, "GetModel", *request, [] { return absl::OkStatus(); });
  }

  std::unique_ptr<v1::Secateur::Stub> Stub() const {
    return v1::Secateur::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port_),
                                                     grpc::InsecureChannelCredentials()));
  }
  int started() const { return started_; }

 private:
  absl::Status WorkOn(RunContext& run) {
    ++started_;
    while (!run.cancelled()) std::this_thread::yield();
    return run.CheckCancelled();
  }

  Metrics metrics_{"test"};
  std::atomic<int> started_{0};
  CallRunner calls_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

grpc::Status Call(v1::Secateur::Stub& stub, grpc::ClientContext& context) {
  v1::PlanExpertResponse response;
  return stub.PlanExpert(&context, {}, &response);
}

// With one thread the second call works only when the first has stopped.
TEST(CallRunner, StopsTheWorkOfAClientThatGoesAway) {
  EndlessService service;
  const auto stub = service.Stub();
  for (int calls = 1; calls <= 2; ++calls) {
    grpc::ClientContext context;
    auto call = std::async(std::launch::async, [&] { return Call(*stub, context); });
    while (service.started() < calls) std::this_thread::yield();
    context.TryCancel();
    EXPECT_EQ(call.get().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST(CallRunner, StopsTheWorkOfACallWhoseDeadlinePasses) {
  EndlessService service;
  const auto stub = service.Stub();
  grpc::ClientContext first;
  first.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  EXPECT_EQ(Call(*stub, first).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  const int before = service.started();
  grpc::ClientContext second;
  auto call = std::async(std::launch::async, [&] { return Call(*stub, second); });
  while (service.started() == before) std::this_thread::yield();
  second.TryCancel();
  EXPECT_EQ(call.get().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(CallRunner, LongCallsHoldUpNoOthers) {
  EndlessService service;
  const auto stub = service.Stub();
  grpc::ClientContext context;
  auto call = std::async(std::launch::async, [&] { return Call(*stub, context); });
  while (service.started() < 1) std::this_thread::yield();
  grpc::ClientContext other;
  other.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  v1::Model model;
  EXPECT_TRUE(stub->GetModel(&other, {}, &model).ok());
  context.TryCancel();
  EXPECT_EQ(call.get().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(CallRunner, CallsForTheDeviceHoldUpNoOthers) {
  EndlessService service;
  const auto stub = service.Stub();
  grpc::ClientContext context;
  v1::CompareDimensionsResponse compared;
  auto call = std::async(std::launch::async,
                         [&] { return stub->CompareDimensions(&context, {}, &compared); });
  while (service.started() < 1) std::this_thread::yield();
  grpc::ClientContext other;
  other.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  google::longrunning::Operation operation;
  EXPECT_TRUE(stub->CreateExpert(&other, {}, &operation).ok());
  context.TryCancel();
  EXPECT_EQ(call.get().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace secateur
