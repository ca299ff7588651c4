#include "server/service/submit.h"

#include "server/artifact/manifest.h"
#include "server/base/status_macros.h"
#include "server/service/convert.h"

namespace secateur {

TypedBytes ToTypedBytes(const google::protobuf::Message& message) {
  return {.type = message.GetDescriptor()->full_name(), .bytes = message.SerializeAsString()};
}

OperationRequest MakeOperationRequest(const std::string& method, const std::string& target,
                                      const std::string& request_id,
                                      const google::protobuf::Message& request) {
  return {.method = method,
          .target = target,
          .request_id = request_id,
          .request = CanonicalBytes(request)};
}

absl::StatusOr<google::longrunning::Operation> Submit(JobQueue& jobs, const std::string& method,
                                                      const std::string& target,
                                                      const std::string& request_id,
                                                      const google::protobuf::Message& request) {
  ASSIGN_OR_RETURN(const Operation operation,
                   jobs.Submit(MakeOperationRequest(method, target, request_id, request)));
  return ToProto(operation);
}

absl::Status CheckModelExists(const ResidentModels& models, const std::string& name) {
  const absl::Status status = models.Get(name).status();
  return absl::IsNotFound(status) ? status : absl::OkStatus();
}

}  // namespace secateur
