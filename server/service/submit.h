// From requests to operations, and the jobs behind them. A job is made from the serialized request
// alone, on the worker, so that it can be made again in another process.
#pragma once

#include <map>
#include <string>

#include <google/protobuf/message.h>

#include "absl/status/statusor.h"
#include "google/longrunning/operations.pb.h"
#include "server/jobs/job_queue.h"
#include "server/pipeline/build_profile.h"
#include "server/service/secateur_service.h"

namespace secateur {

TypedBytes ToTypedBytes(const google::protobuf::Message& message);

OperationRequest MakeOperationRequest(const std::string& method, const std::string& target,
                                      const std::string& request_id,
                                      const google::protobuf::Message& request);

// Queues the job of `method` for `request`.
absl::StatusOr<google::longrunning::Operation> Submit(JobQueue& jobs, const std::string& method,
                                                      const std::string& target,
                                                      const std::string& request_id,
                                                      const google::protobuf::Message& request);

// NOT_FOUND unless the model is served here, loaded or not.
absl::Status CheckModelExists(const ResidentModels& models, const std::string& name);

// What profiles the request takes of a model whose texts have at most `max_positions` tokens.
ProfileSettings ProfileSettingsOf(const v1::CreateProfileRequest& request, int64_t max_positions);

absl::StatusOr<Job> MakeCorpusJob(const JobParts& parts, const OperationRequest& operation);
absl::StatusOr<Job> MakeProfileJob(const JobParts& parts, const OperationRequest& operation);
absl::StatusOr<Job> MakeExpertJob(const JobParts& parts, const OperationRequest& operation);
absl::StatusOr<Job> MakeEvaluationJob(const JobParts& parts, const OperationRequest& operation);

}  // namespace secateur
