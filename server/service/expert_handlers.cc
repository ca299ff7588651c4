// Experts: PlanExpert, CreateExpert, GetExpert, ListExperts, DeleteExpert.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/compensate/bias.h"
#include "server/mask/mixed_budget.h"
#include "server/pipeline/build_expert.h"
#include "server/pipeline/build_profile.h"
#include "server/pipeline/compensate_expert.h"
#include "server/pipeline/plan_convergence.h"
#include "server/service/convert.h"
#include "server/service/evaluation_corpora.h"
#include "server/service/expert_spec.h"
#include "server/service/find_expert.h"
#include "server/service/find_model.h"
#include "server/service/lifetime.h"
#include "server/service/names.h"
#include "server/service/paging.h"
#include "server/service/secateur_service.h"
#include "server/service/submit.h"

namespace secateur {
namespace {

// Whether the base's attention can go as asked.
absl::Status CheckKvHeadGroups(const ModelConfig& config, const ExpertRequest& request) {
  if (!request.kv_head_groups) return absl::OkStatus();
  if (config.num_kv_heads == 1) {
    return NotHonoured("spec.units",
                       "KV_HEAD_GROUP: the model has one KV head, which all its query heads read");
  }
  const std::vector<int64_t> possible = PossibleGroups(config, request.group_target);
  const int64_t kept = request.kept_kv_head_groups;
  if (kept == 0 || std::find(possible.begin(), possible.end(), kept) != possible.end()) {
    return absl::OkStatus();
  }
  return WithReason(
      WithField(absl::OutOfRangeError(StrCat(
                    "kv_head_groups ", kept, " cannot be had: of ", config.num_kv_heads,
                    " groups the target can have ", absl::StrJoin(possible, ", "),
                    ": the hidden size must be a multiple of the query heads, and these of the "
                    "devices")),
                "spec.kv_head_groups"),
      "BUDGET_NOT_REACHABLE");
}

absl::StatusOr<ExpertRequest> CheckedRequest(const JobParts& parts, const ResidentModel& model,
                                             const v1::ExpertSpec& spec, bool budget_required) {
  ASSIGN_OR_RETURN(ExpertRequest request,
                   RequestFromProto(spec, model.config().max_positions, budget_required));
  if (request.compensation == Compensation::kBias && !CanHoldBias(model.config())) {
    return NotHonoured("spec.compensation",
                       StrCat("BIAS: a config.json of ", model.config().model_type,
                              " holds no bias of down_proj; LEAST_SQUARES needs none"));
  }
  RETURN_IF_ERROR(CheckKvHeadGroups(model.config(), request));
  RETURN_IF_ERROR(CheckEvaluationCorpora(parts.stores.corpora, request.evaluation_corpora,
                                         "spec.evaluation_corpora"));
  return request;
}

// As ResolveSources, once more when that finds too little: another server may have just added a
// corpus.
absl::StatusOr<ResolvedSources> SourcesOf(const JobParts& parts, const ExpertRequest& request) {
  absl::StatusOr<ResolvedSources> sources = ResolveSources(request, parts.stores.corpora);
  if (!absl::IsFailedPrecondition(sources.status())) return sources;
  RETURN_IF_ERROR(parts.stores.corpora.Refresh());
  return ResolveSources(request, parts.stores.corpora);
}

// As ComposeRequest, once more when a profile is missing: another server may have just made it.
absl::StatusOr<ComposedRequest> Composed(const JobParts& parts, const ResidentModel& model,
                                         const ExpertRequest& request) {
  ASSIGN_OR_RETURN(const ResolvedSources sources, SourcesOf(parts, request));
  auto composed = ComposeRequest(model, request, sources, parts.stores);
  if (NotesOf(composed.status()).reason != "PROFILE_MISSING") return composed;
  RETURN_IF_ERROR(parts.stores.profiles.Load());
  return ComposeRequest(model, request, sources, parts.stores);
}

absl::StatusOr<std::string> OutputUri(const JobParts& parts, const std::string& uri) {
  if (uri.empty()) return std::string();
  auto allowed = parts.writable.Resolve(uri, "--allow-write");
  if (!allowed.ok()) return WithField(allowed.status(), "output_uri");
  return allowed;
}

// An expiration before `now` is refused.
absl::StatusOr<BuildOptions> OptionsFromProto(const JobParts& parts,
                                              const v1::CreateExpertRequest& request,
                                              const ExpertRequest& expert, absl::Time now) {
  BuildOptions options{.refresh = request.cache_policy() == v1::REFRESH,
                       .only_if_cached = request.cache_policy() == v1::ONLY_IF_CACHED};
  ASSIGN_OR_RETURN(options.gate, GateFromProto(request.gate(), expert.evaluation_corpora));
  ASSIGN_OR_RETURN(options.lifetime, LifetimeFromProto(request, now));
  ASSIGN_OR_RETURN(options.output_uri, OutputUri(parts, request.output_uri()));
  return options;
}

absl::Status Plan(const ServiceParts& parts, const v1::PlanExpertRequest& request, RunContext& run,
                  v1::PlanExpertResponse& response) {
  ASSIGN_OR_RETURN(const auto model, FindModel(parts, request.parent()));
  if (request.budgets_size() > 32) {
    return WithField(absl::InvalidArgumentError("budgets: at most 32"), "budgets");
  }
  ASSIGN_OR_RETURN(const ExpertRequest expert,
                   CheckedRequest(parts, *model, request.spec(), request.budgets_size() == 0));
  if (!expert.neurons && request.budgets_size() > 0) {
    return NotHonoured("budgets", "they are about neurons, and spec.units has VOCABULARY alone");
  }
  std::vector<std::pair<v1::Budget, ExpertBudget>> budgets;
  for (int i = 0; i < request.budgets_size(); ++i) {
    ASSIGN_OR_RETURN(const ExpertBudget budget,
                     BudgetFromProto(request.budgets(i), expert, StrCat("budgets[", i, "]")));
    budgets.emplace_back(request.budgets(i), budget);
  }
  if (budgets.empty()) budgets.emplace_back(request.spec().budget(), expert.budget);
  RETURN_IF_ERROR(model->digest().status());
  ASSIGN_OR_RETURN(ComposedRequest composed, Composed(parts, *model, expert));
  RETURN_IF_ERROR(AddVocabulary(*model, expert, parts.stores, run, composed));
  PlanConvergence convergence(composed);
  for (const auto& [asked, budget] : budgets) {
    RETURN_IF_ERROR(run.CheckCancelled());
    const auto planned = PlanSize(*model, expert, composed, budget);
    if (!planned.ok()) {
      if (request.budgets_size() == 0 || !absl::IsOutOfRange(planned.status())) {
        return planned.status();
      }
      return WithField(planned.status(), StrCat("budgets[", response.plans_size(), "]"));
    }
    v1::Plan& plan = *response.add_plans();
    plan = ToProto(*planned, composed, *model);
    if (expert.neurons) *plan.mutable_budget() = asked;
    ASSIGN_OR_RETURN(const auto enough, convergence.At(*planned));
    if (enough) *plan.mutable_convergence() = *enough;
    if (expert.compensation != Compensation::kNone) {
      *plan.mutable_compensation_cost() = CostOfCompensation(*model, expert, composed, *planned);
    }
    plan.set_expert_exists(parts.stores.experts.Find(planned->expert_id).has_value());
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Expert> Validate(const ServiceParts& parts, const ResidentModel& model,
                                    const ExpertRequest& request, RunContext& run) {
  RETURN_IF_ERROR(model.digest().status());
  ASSIGN_OR_RETURN(ComposedRequest composed, Composed(parts, model, request));
  RETURN_IF_ERROR(AddVocabulary(model, request, parts.stores, run, composed));
  ASSIGN_OR_RETURN(const PlannedExpert planned, PlanSize(model, request, composed, request.budget));
  v1::Expert expert = ToExpert(planned, composed, model);
  ASSIGN_OR_RETURN(const auto convergence, PlanConvergence(composed).At(planned));
  if (convergence) *expert.mutable_convergence() = *convergence;
  return expert;
}

// The expert if it is there already and nothing else is asked for: such a request is done at once.
absl::StatusOr<std::optional<v1::Expert>> Cached(const ServiceParts& parts,
                                                 const ResidentModel& model,
                                                 const ExpertRequest& expert,
                                                 const BuildOptions& options,
                                                 const v1::CreateExpertRequest& request) {
  if (request.cache_policy() == v1::REFRESH) return std::nullopt;
  const bool only_if_cached = request.cache_policy() == v1::ONLY_IF_CACHED;
  if (only_if_cached) RETURN_IF_ERROR(model.digest().status());
  if (!model.digest().ok()) return std::nullopt;
  ASSIGN_OR_RETURN(const auto found, FindExpert(model, expert, parts.stores));
  if (!found && only_if_cached) return NotMadeYet();
  if (!found || !request.output_uri().empty()) return std::nullopt;
  ASSIGN_OR_RETURN(v1::Expert out, ToProto(*found, parts.stores.blobs.uri()));
  // An unmet gate is an error of the operation, whether the expert is new or not.
  if (!CheckGate(options.gate, out.evaluations()).ok()) return std::nullopt;
  const auto extended = parts.stores.experts.Extend(*found, options.lifetime);
  if (absl::IsNotFound(extended.status())) {
    if (only_if_cached) return NotMadeYet();
    return std::nullopt;
  }
  RETURN_IF_ERROR(extended.status());
  parts.stores.metrics.expert_cache_hits.Increment();
  return ToProto(*extended, parts.stores.blobs.uri());
}

// What can be told before any text has been looked at. How far a trimmed vocabulary takes a budget
// cannot.
absl::Status CheckReachable(const ResidentModel& model, const ExpertRequest& expert) {
  if (expert.vocabulary) return model.vocabulary().Trimmer().status();
  const auto* budget = std::get_if<Budget>(&expert.budget);
  const bool groups_open = expert.kv_head_groups && expert.kept_kv_head_groups == 0;
  if (budget == nullptr || groups_open) return absl::OkStatus();
  return SizeForBudget(model, expert, *budget,
                       {.kv_head_groups = expert.kept_kv_head_groups,
                        .ffn_bias = expert.compensation == Compensation::kBias})
      .status();
}

absl::Status Create(const ServiceParts& parts, const v1::CreateExpertRequest& request,
                    RunContext& run, google::longrunning::Operation& response) {
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  ASSIGN_OR_RETURN(const auto model, FindModel(parts, request.parent()));
  ASSIGN_OR_RETURN(const ExpertRequest expert,
                   CheckedRequest(parts, *model, request.spec(), /*budget_required=*/true));
  ASSIGN_OR_RETURN(const BuildOptions options,
                   OptionsFromProto(parts, request, expert, parts.stores.experts.clock().Now()));
  RETURN_IF_ERROR(SourcesOf(parts, expert).status());
  RETURN_IF_ERROR(CheckReachable(*model, expert));
  std::optional<v1::Expert> done;
  if (request.validate_only()) {
    ASSIGN_OR_RETURN(done, Validate(parts, *model, expert, run));
  } else {
    ASSIGN_OR_RETURN(done, Cached(parts, *model, expert, options, request));
  }
  if (done) {
    ASSIGN_OR_RETURN(const Operation operation,
                     parts.jobs.SubmitDone(MakeOperationRequest("CreateExpert", request.parent(),
                                                                request.request_id(), request),
                                           ToTypedBytes(*done)));
    response = ToProto(operation);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(response, Submit(parts.jobs, "CreateExpert", request.parent(),
                                    request.request_id(), request));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Job> MakeExpertJob(const JobParts& parts, const OperationRequest& operation) {
  v1::CreateExpertRequest request;
  request.ParseFromString(operation.request);
  ASSIGN_OR_RETURN(auto model, FindModel(parts, request.parent()));
  ASSIGN_OR_RETURN(ExpertRequest expert,
                   CheckedRequest(parts, *model, request.spec(), /*budget_required=*/true));
  // An end that has passed by now is an error of the operation.
  ASSIGN_OR_RETURN(const BuildOptions options,
                   OptionsFromProto(parts, request, expert, absl::InfinitePast()));
  return Job([parts, model = std::move(model), expert = std::move(expert),
              options](RunContext& run) -> absl::StatusOr<TypedBytes> {
    ASSIGN_OR_RETURN(const StoredExpert stored,
                     BuildExpert(*model, expert, options, parts.stores, run));
    ASSIGN_OR_RETURN(const v1::Expert out, ToProto(stored, parts.stores.blobs.uri()));
    return ToTypedBytes(out);
  });
}

SecateurService::Reactor* SecateurService::PlanExpert(Context* context,
                                                      const v1::PlanExpertRequest* request,
                                                      v1::PlanExpertResponse* response) {
  const auto work = [this, request, response](RunContext& run) {
    return Plan(parts_, *request, run, *response);
  };
  return Removes(request->spec(), v1::VOCABULARY)
             ? parts_.calls.DeviceUnary(context, "PlanExpert", *request, work)
             : parts_.calls.LongUnary(context, "PlanExpert", *request, work);
}

SecateurService::Reactor* SecateurService::CreateExpert(Context* context,
                                                        const v1::CreateExpertRequest* request,
                                                        google::longrunning::Operation* response) {
  const auto work = [this, request, response](RunContext& run) {
    return Create(parts_, *request, run, *response);
  };
  return request->validate_only() && Removes(request->spec(), v1::VOCABULARY)
             ? parts_.calls.DeviceUnary(context, "CreateExpert", *request, work)
             : parts_.calls.LongUnary(context, "CreateExpert", *request, work);
}

SecateurService::Reactor* SecateurService::GetExpert(Context* context,
                                                     const v1::GetExpertRequest* request,
                                                     v1::Expert* response) {
  return parts_.calls.Unary(
      context, "GetExpert", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const FoundExpert found, FindExpertByName(parts_, request->name()));
        *response = found.proto;
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::ListExperts(Context* context,
                                                       const v1::ListExpertsRequest* request,
                                                       v1::ListExpertsResponse* response) {
  return parts_.calls.Unary(
      context, "ListExperts", *request, [this, request, response]() -> absl::Status {
        ASSIGN_OR_RETURN(const std::string model, ParseModelName(request->parent(), "parent"));
        RETURN_IF_ERROR(CheckModelExists(parts_.models, model));
        std::vector<v1::Expert> experts;
        for (const StoredExpert& stored : parts_.stores.experts.List()) {
          const auto expert = ToProto(stored, parts_.stores.blobs.uri());
          if (expert.ok() && expert->name() == ExpertName(model, stored.id))
            experts.push_back(*expert);
        }
        ASSIGN_OR_RETURN(const auto page,
                         Paginate(std::move(experts), request->page_size(), request->page_token(),
                                  [](const v1::Expert& expert) { return expert.name(); }));
        for (const v1::Expert& expert : page.items) *response->add_experts() = expert;
        response->set_next_page_token(page.next_page_token);
        return absl::OkStatus();
      });
}

SecateurService::Reactor* SecateurService::DeleteExpert(Context* context,
                                                        const v1::DeleteExpertRequest* request,
                                                        google::protobuf::Empty*) {
  return parts_.calls.Unary(context, "DeleteExpert", *request, [this, request]() -> absl::Status {
    ASSIGN_OR_RETURN(const FoundExpert found, FindExpertByName(parts_, request->name()));
    return parts_.stores.experts.Delete(found.stored.id);
  });
}

}  // namespace secateur
