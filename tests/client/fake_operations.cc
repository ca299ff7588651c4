#include <algorithm>

#include "tests/client/fake_lists.h"
#include "tests/client/fake_server.h"

namespace secateur {

grpc::Status FakeOperations::GetOperation(grpc::ServerContext*,
                                          const google::longrunning::GetOperationRequest* request,
                                          Operation* operation) {
  return FindByName(known, request->name(), operation);
}

grpc::Status FakeOperations::ListOperations(
    grpc::ServerContext*, const google::longrunning::ListOperationsRequest* request,
    google::longrunning::ListOperationsResponse* response) {
  listed = request->name();
  return AddPage(known, 2, *request, *response->mutable_operations(), *response);
}

grpc::Status FakeOperations::WaitOperation(grpc::ServerContext*,
                                           const google::longrunning::WaitOperationRequest*,
                                           Operation* operation) {
  if (wait_answers.empty()) return {grpc::StatusCode::UNIMPLEMENTED, "no WaitOperation"};
  *operation = wait_answers[std::min(wait_calls++, wait_answers.size() - 1)];
  return grpc::Status::OK;
}

grpc::Status FakeOperations::CancelOperation(
    grpc::ServerContext*, const google::longrunning::CancelOperationRequest* request,
    google::protobuf::Empty*) {
  cancelled = request->name();
  return grpc::Status::OK;
}

grpc::Status FakeOperations::DeleteOperation(
    grpc::ServerContext*, const google::longrunning::DeleteOperationRequest* request,
    google::protobuf::Empty*) {
  deleted = request->name();
  return grpc::Status::OK;
}

Operation RunningOperation(const std::string& name, const std::string& phase, double share) {
  v1::OperationMetadata metadata;
  metadata.set_method("CreateExpert");
  metadata.set_target("models/smollm2");
  metadata.set_state(v1::OperationMetadata::RUNNING);
  metadata.mutable_progress()->set_phase(phase);
  metadata.mutable_progress()->set_done(static_cast<int64_t>(share * 2000));
  metadata.mutable_progress()->set_total(2000);
  metadata.mutable_progress()->set_unit("tokens");
  Operation operation;
  operation.set_name(name);
  operation.mutable_metadata()->PackFrom(metadata);
  return operation;
}

Operation SucceededOperation(const std::string& name, const google::protobuf::Message& response) {
  v1::OperationMetadata metadata;
  metadata.set_state(v1::OperationMetadata::SUCCEEDED);
  Operation operation;
  operation.set_name(name);
  operation.set_done(true);
  operation.mutable_metadata()->PackFrom(metadata);
  operation.mutable_response()->PackFrom(response);
  return operation;
}

Operation FailedOperation(const std::string& name, grpc::StatusCode code,
                          const std::string& message) {
  v1::OperationMetadata metadata;
  metadata.set_state(code == grpc::StatusCode::CANCELLED ? v1::OperationMetadata::CANCELLED
                                                         : v1::OperationMetadata::FAILED);
  Operation operation;
  operation.set_name(name);
  operation.set_done(true);
  operation.mutable_metadata()->PackFrom(metadata);
  operation.mutable_error()->set_code(code);
  operation.mutable_error()->set_message(message);
  return operation;
}

}  // namespace secateur
