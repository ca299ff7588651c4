// google.longrunning.Operations over the job queue. Thread-safe; what it is given must outlive it.
#pragma once

#include "google/longrunning/operations.grpc.pb.h"
#include "server/jobs/job_queue.h"
#include "server/service/call.h"

namespace secateur {

class OperationsService final : public google::longrunning::Operations::CallbackService {
 public:
  OperationsService(JobQueue& jobs, CallRunner& calls) : jobs_(jobs), calls_(calls) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  // `name` is empty or "operations"; `filter` is empty. Newest first.
  Reactor* ListOperations(Context* context,
                          const google::longrunning::ListOperationsRequest* request,
                          google::longrunning::ListOperationsResponse* response) override;
  Reactor* GetOperation(Context* context, const google::longrunning::GetOperationRequest* request,
                        google::longrunning::Operation* response) override;
  Reactor* DeleteOperation(Context* context,
                           const google::longrunning::DeleteOperationRequest* request,
                           google::protobuf::Empty* response) override;
  Reactor* CancelOperation(Context* context,
                           const google::longrunning::CancelOperationRequest* request,
                           google::protobuf::Empty* response) override;
  // Answers when the operation is done or after `timeout` (default and most: 60 s), whichever is
  // first, with the state it has then.
  Reactor* WaitOperation(Context* context, const google::longrunning::WaitOperationRequest* request,
                         google::longrunning::Operation* response) override;

 private:
  JobQueue& jobs_;
  CallRunner& calls_;
};

}  // namespace secateur
