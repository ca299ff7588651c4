#include "server/pipeline/plan_expert.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/pipeline/dimension_view.h"
#include "server/pipeline/resolved_request.h"

namespace secateur {
namespace {

constexpr int kComposeThreads = 2;

absl::Status SigmaTooSmall(const RemovalOrder& order, double sigma, int64_t alignment) {
  return WithReason(
      WithField(absl::OutOfRangeError(absl::StrFormat(
                    "at sigma %g no width below the base's can be cut: some layer's strict set is "
                    "smaller than one step of %d neurons; the smallest sigma that removes one step "
                    "is %.6g",
                    sigma, alignment, SigmaForRemoved(order, alignment))),
                "spec.budget"),
      "BUDGET_NOT_REACHABLE");
}

// The narrowest aligned width that removes only neurons of every layer's strict set.
absl::StatusOr<Size> SizeForSigma(const ResidentModel& model, const RemovalOrder& order,
                                  double sigma, int64_t alignment) {
  const std::vector<int64_t> counts = IrrelevantCounts(order, sigma);
  const int64_t m = model.config().intermediate_size;
  const int64_t removable = *std::min_element(counts.begin(), counts.end());
  const int64_t width =
      std::max((m - removable + alignment - 1) / alignment, int64_t{1}) * alignment;
  if (width >= m) return SigmaTooSmall(order, sigma, alignment);
  return SizeAtWidth(model.config(), width, StoredItemSize(model.folder()));
}

}  // namespace

absl::StatusOr<ComposedRequest> ComposeRequest(const ResidentModel& model,
                                               const ExpertRequest& request,
                                               ResolvedSources sources, Stores stores) {
  ComposedRequest composed;
  composed.sources = std::move(sources);
  ASSIGN_OR_RETURN(composed.profiles,
                   FindProfiles(model, composed.sources.corpora, request.max_document_tokens,
                                "spec.select", stores));
  const absl::Time start = absl::Now();
  std::vector<std::shared_ptr<const RelevanceView>> views;
  std::vector<WeightedView> weighted;
  for (const ResolvedView& view : composed.sources.views) {
    std::vector<const ProfileInfo*> profiles;
    for (const CorpusInfo& corpus : view.corpora) {
      for (const ProfileInfo& profile : composed.profiles) {
        if (profile.key.corpus_digest == corpus.digest) profiles.push_back(&profile);
      }
    }
    ASSIGN_OR_RETURN(views.emplace_back(), MergedView(profiles, stores));
    weighted.push_back({views.back().get(), view.weight});
  }
  ASSIGN_OR_RETURN(composed.order, Compose(request.rule, weighted, kComposeThreads));
  stores.metrics.compose_duration.Observe(absl::ToDoubleSeconds(absl::Now() - start));
  return composed;
}

absl::StatusOr<Size> SizeForBudget(const ResidentModel& model, const Budget& budget,
                                   int64_t alignment) {
  auto size = SolveWidth(model.config(), budget, alignment, StoredItemSize(model.folder()));
  if (size.ok() || !absl::IsOutOfRange(size.status())) return size;
  return WithReason(WithField(size.status(), "spec.budget"), "BUDGET_NOT_REACHABLE");
}

absl::StatusOr<PlannedExpert> PlanSize(const ResidentModel& model, const ExpertRequest& request,
                                       const ComposedRequest& composed,
                                       const ExpertBudget& budget) {
  PlannedExpert planned;
  if (const auto* sigma = std::get_if<Sigma>(&budget)) {
    ASSIGN_OR_RETURN(planned.size,
                     SizeForSigma(model, composed.order, sigma->value, request.alignment));
  } else {
    ASSIGN_OR_RETURN(planned.size,
                     SizeForBudget(model, std::get<Budget>(budget), request.alignment));
  }
  if (request.rule == Rule::kCusPrun) {
    planned.sigma =
        SigmaForRemoved(composed.order, model.config().intermediate_size - planned.size.width);
    planned.irrelevant_counts = IrrelevantCounts(composed.order, planned.sigma);
  }
  planned.mask = SelectUniform(composed.order, planned.size.width, kComposeThreads);
  ASSIGN_OR_RETURN(const Digest base, model.WaitForDigest());
  planned.resolved = ResolveRequest(request, composed.sources, planned.size.width, base);
  planned.expert_id = ExpertIdOf(planned.resolved);
  return planned;
}

int64_t StoredItemSize(const ModelFolder& folder) {
  return ItemSize(folder.tensors().Find(folder.table()[0].name)->dtype);
}

Size BaseSize(const ResidentModel& model) {
  return SizeAtWidth(model.config(), model.config().intermediate_size,
                     StoredItemSize(model.folder()));
}

}  // namespace secateur
