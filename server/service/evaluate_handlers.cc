// EvaluateExpert.
#include <algorithm>
#include <memory>
#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/pipeline/evaluate_expert.h"
#include "server/service/evaluation_corpora.h"
#include "server/service/find_expert.h"
#include "server/service/names.h"
#include "server/service/secateur_service.h"
#include "server/service/submit.h"
#include "server/service/validate.h"

namespace secateur {
namespace {

// A request whose names are known and whose values are in range.
struct CheckedEvaluation {
  FoundExpert expert;
  std::shared_ptr<ResidentModel> base;
  EvaluationRequest request;
};

absl::StatusOr<CheckedEvaluation> Checked(const JobParts& parts,
                                          const v1::EvaluateExpertRequest& request) {
  ASSIGN_OR_RETURN(FoundExpert expert, FindExpertByName(parts, request.name()));
  ASSIGN_OR_RETURN(const ChildName name, ParseExpertName(request.name(), "name"));
  ASSIGN_OR_RETURN(auto base, parts.models.Get(name.model));
  EvaluationRequest evaluation;
  ASSIGN_OR_RETURN(evaluation.corpora, ParseEvaluationCorpora(request.corpora(), "corpora"));
  if (evaluation.corpora.empty()) {
    return WithField(
        absl::InvalidArgumentError("corpora: name at least one corpus with purpose EVALUATION"),
        "corpora");
  }
  RETURN_IF_ERROR(CheckEvaluationCorpora(parts.stores.corpora, evaluation.corpora, "corpora"));
  if (request.max_document_tokens() != 0) {
    RETURN_IF_ERROR(CheckDocumentTokens(request.max_document_tokens(), base->config().max_positions,
                                        "max_document_tokens"));
    evaluation.max_document_tokens = request.max_document_tokens();
  }
  // A digest that is still being computed is waited for by the job alone.
  if (base->digest().ok()) RETURN_IF_ERROR(CheckIsBaseOf(*base, expert.stored));
  return CheckedEvaluation{std::move(expert), std::move(base), std::move(evaluation)};
}

}  // namespace

absl::StatusOr<Job> MakeEvaluationJob(const JobParts& parts, const OperationRequest& operation) {
  v1::EvaluateExpertRequest request;
  request.ParseFromString(operation.request);
  ASSIGN_OR_RETURN(CheckedEvaluation checked, Checked(parts, request));
  return Job([parts, checked = std::move(checked)](RunContext& run) -> absl::StatusOr<TypedBytes> {
    ASSIGN_OR_RETURN(
        const std::vector<v1::EvaluationResult> results,
        EvaluateExpert(*checked.base, checked.expert.stored, checked.request, parts.stores, run));
    v1::EvaluateExpertResponse response;
    response.set_expert(checked.expert.proto.name());
    response.mutable_evaluations()->Add(results.begin(), results.end());
    return ToTypedBytes(response);
  });
}

SecateurService::Reactor* SecateurService::EvaluateExpert(
    Context* context, const v1::EvaluateExpertRequest* request,
    google::longrunning::Operation* response) {
  return parts_.calls.Unary(
      context, "EvaluateExpert", *request, [this, request, response]() -> absl::Status {
        RETURN_IF_ERROR(CheckRequestId(request->request_id()));
        RETURN_IF_ERROR(Checked(parts_, *request).status());
        ASSIGN_OR_RETURN(*response, Submit(parts_.jobs, "EvaluateExpert", request->name(),
                                           request->request_id(), *request));
        return absl::OkStatus();
      });
}

}  // namespace secateur
