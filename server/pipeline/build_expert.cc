#include "server/pipeline/build_expert.h"

#include <utility>

#include "server/artifact/manifest.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/object_storage/open_store.h"
#include "server/pipeline/build_profile.h"

namespace secateur {

absl::Status NotMadeYet() {
  return WithReason(WithField(absl::FailedPreconditionError(
                                  "there is no such expert yet, and cache_policy is "
                                  "ONLY_IF_CACHED: use cache policy USE to have it made"),
                              "cache_policy"),
                    "NOT_MADE_YET");
}

absl::StatusOr<std::optional<StoredExpert>> FindExpert(const ResidentModel& model,
                                                       const ExpertRequest& request,
                                                       const Stores& stores) {
  ASSIGN_OR_RETURN(ResolvedSources sources, ResolveSources(request, stores.corpora));
  auto composed = ComposeRequest(model, request, std::move(sources), stores);
  if (NotesOf(composed.status()).reason == "PROFILE_MISSING") return std::nullopt;
  if (!composed.ok()) return composed.status();
  if (request.vocabulary) {
    composed->vocabulary = model.vocabulary().Find(composed->sources.corpora);
    if (composed->vocabulary == nullptr) return std::nullopt;
  }
  ASSIGN_OR_RETURN(const PlannedExpert planned,
                   PlanSize(model, request, *composed, request.budget));
  return stores.experts.Find(planned.expert_id);
}

namespace {

absl::Status CopyToOutput(const StoredExpert& expert, const std::string& uri, const Stores& stores,
                          RunContext& context) {
  if (uri.empty()) return absl::OkStatus();
  const auto target = OpenStore(uri, stores.requested);
  if (!target.ok()) return WithField(target.status(), "output_uri");
  return WithField(stores.experts.CopyTo(expert, **target, context), "output_uri");
}

// The expert if it is there, extended; it may be deleted before it is.
absl::StatusOr<std::optional<StoredExpert>> Reuse(const std::string& id,
                                                  const BuildOptions& options,
                                                  const Stores& stores) {
  const std::optional<StoredExpert> expert = stores.experts.Find(id);
  if (!expert || options.refresh) return std::nullopt;
  ASSIGN_OR_RETURN(const v1::Manifest manifest, ParseManifest(expert->manifest_json));
  RETURN_IF_ERROR(CheckGate(options.gate, manifest.evaluations()));
  const auto extended = stores.experts.Extend(*expert, options.lifetime);
  if (absl::IsNotFound(extended.status())) return std::nullopt;
  RETURN_IF_ERROR(extended.status());
  stores.metrics.expert_cache_hits.Increment();
  return *extended;
}

// A profile that turns out to be damaged when it is read is made again: each round forgets at least
// one, so there are no more rounds than corpora.
absl::StatusOr<ComposedRequest> ProfileAndCompose(ResidentModel& model,
                                                  const ExpertRequest& request,
                                                  const Stores& stores, RunContext& context) {
  ASSIGN_OR_RETURN(const ResolvedSources sources, ResolveSources(request, stores.corpora));
  for (size_t left = sources.corpora.size();; --left) {
    if (request.neurons) {
      RETURN_IF_ERROR(
          BuildProfiles(model, sources.corpora, ProfileSettingsOf(request), stores, context)
              .status());
    }
    context.Report({"compose", 0, 1, "masks"});
    auto composed = ComposeRequest(model, request, sources, stores);
    const bool again =
        request.neurons && left > 0 && NotesOf(composed.status()).reason == "PROFILE_MISSING";
    if (!again) return composed;
  }
}

}  // namespace

absl::StatusOr<StoredExpert> BuildExpert(ResidentModel& model, const ExpertRequest& request,
                                         const BuildOptions& options, const Stores& stores,
                                         RunContext& context) {
  RETURN_IF_ERROR(stores.experts.CheckAhead(options.lifetime));
  RETURN_IF_ERROR(model.WaitForDigest(context));
  ASSIGN_OR_RETURN(ComposedRequest composed, ProfileAndCompose(model, request, stores, context));
  RETURN_IF_ERROR(AddVocabulary(model, request, stores, context, composed));
  ASSIGN_OR_RETURN(const PlannedExpert planned, PlanSize(model, request, composed, request.budget));
  ASSIGN_OR_RETURN(const auto hold, stores.single_flight.Acquire(planned.expert_id, context));
  ASSIGN_OR_RETURN(auto expert, Reuse(planned.expert_id, options, stores));
  if (!expert) {
    if (options.only_if_cached) return NotMadeYet();
    ASSIGN_OR_RETURN(expert,
                     MakeExpert(model, request, planned, composed, options, hold, stores, context));
  }
  RETURN_IF_ERROR(CopyToOutput(*expert, options.output_uri, stores, context));
  return *expert;
}

}  // namespace secateur
