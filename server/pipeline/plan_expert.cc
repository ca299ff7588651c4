#include "server/pipeline/plan_expert.h"
#include "server/artifact/manifest.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/mask/kept_units.h"
#include "server/mask/mixed_budget.h"
#include "server/pipeline/build_profile.h"
#include "server/pipeline/dimension_view.h"
#include "server/pipeline/resolved_request.h"

namespace secateur {
namespace {

constexpr int kComposeThreads = 2;

absl::StatusOr<Size> NotReachable(absl::StatusOr<Size> size) {
  if (size.ok() || !absl::IsOutOfRange(size.status())) return size;
  return WithReason(WithField(size.status(), "spec.budget"), "BUDGET_NOT_REACHABLE");
}

// Adds the view of general text: every calibration corpus with a profile.
absl::Status AddGeneralText(const ResidentModel& model, const ExpertRequest& request,
                            const Stores& stores, ResolvedSources& sources) {
  if (request.general_weight == 0) return absl::OkStatus();
  ResolvedView general{.corpora = {}, .weight = request.general_weight};
  for (CorpusInfo& corpus :
       stores.corpora.List({.labels = {}, .purpose = CorpusPurpose::kCalibration})) {
    ASSIGN_OR_RETURN(const ProfileKey key,
                     ProfileKeyFor(model, corpus, ProfileSettingsOf(request)));
    if (FindProfile(stores.profiles, key)) general.corpora.push_back(std::move(corpus));
  }
  if (general.corpora.empty()) return absl::OkStatus();  // no selected one has a profile either
  std::sort(general.corpora.begin(), general.corpora.end(),
            [](const CorpusInfo& a, const CorpusInfo& b) { return a.digest < b.digest; });
  sources.views.push_back(std::move(general));
  sources.general = true;
  for (ResolvedView& view : sources.views) view.weight /= 1 + request.general_weight;
  return absl::OkStatus();
}

// Of all views, each once, sorted by digest.
std::vector<CorpusInfo> CorporaOf(const std::vector<ResolvedView>& views) {
  std::map<Digest, CorpusInfo> corpora;
  for (const ResolvedView& view : views) {
    for (const CorpusInfo& corpus : view.corpora) corpora.emplace(corpus.digest, corpus);
  }
  std::vector<CorpusInfo> list;
  for (auto& [digest, corpus] : corpora) list.push_back(std::move(corpus));
  return list;
}

absl::Status SigmaTooSmall(const RemovalOrder& order, double sigma, int64_t alignment) {
  const int64_t m = std::ssize(order.layers.front());
  const int64_t largest = (m - 1) / alignment * alignment;
  const std::string why =
      largest == 0 ? absl::StrFormat(
                         "at sigma %g no width can be cut: the base's is %d, and the target "
                         "takes multiples of %d",
                         sigma, m, alignment)
                   : absl::StrFormat(
                         "at sigma %g no width below the base's can be cut: some layer's strict "
                         "set is smaller than the %d neurons down to width %d; the smallest "
                         "sigma that removes them is %.6g",
                         sigma, m - largest, largest, SigmaForRemoved(order, m - largest));
  return WithReason(WithField(absl::OutOfRangeError(why), "spec.budget"), "BUDGET_NOT_REACHABLE");
}

// The narrowest aligned width that removes only neurons of every layer's strict set.
absl::StatusOr<Size> SizeForSigma(const ResidentModel& model, const RemovalOrder& order,
                                  double sigma, int64_t alignment, int64_t vocabulary) {
  const std::vector<int64_t> counts = IrrelevantCounts(order, sigma);
  const int64_t m = model.config().intermediate_size;
  const int64_t removable = *std::min_element(counts.begin(), counts.end());
  const int64_t width =
      std::max((m - removable + alignment - 1) / alignment, int64_t{1}) * alignment;
  if (width >= m) return SigmaTooSmall(order, sigma, alignment);
  return SizeAtWidth(model.config(), width, StoredItemSize(model.folder()),
                     {.vocabulary = vocabulary});
}

// The published form: exactly the strict sets go, as zeros.
absl::Status PlanStrictSets(const ResidentModel& model, const ComposedRequest& composed,
                            double sigma, PlannedExpert& planned) {
  const RemovalOrder& order = composed.order;
  planned.sigma = sigma;
  planned.irrelevant_counts = IrrelevantCounts(order, sigma);
  const int64_t width = model.config().intermediate_size;
  if (std::find(planned.irrelevant_counts.begin(), planned.irrelevant_counts.end(), width) !=
      planned.irrelevant_counts.end()) {
    return WithReason(
        WithField(absl::OutOfRangeError(absl::StrFormat(
                      "at sigma %g every neuron of a layer is irrelevant: at most %.17g leaves one",
                      sigma, LargestSigma(order))),
                  "spec.budget"),
        "BUDGET_NOT_REACHABLE");
  }
  planned.mask = SelectRelevant(order, sigma);
  auto attention = SelectAttention(composed.attention, sigma);
  if (!attention.ok()) {
    return WithReason(WithField(attention.status(), "spec.budget"), "BUDGET_NOT_REACHABLE");
  }
  planned.mask.attention = *std::move(attention);
  const int64_t removed = std::accumulate(planned.irrelevant_counts.begin(),
                                          planned.irrelevant_counts.end(), int64_t{0});
  planned.size = SizeAtRemoved(model.config(), removed, StoredItemSize(model.folder()),
                               CountRemovedAttention(model.config(), planned.mask));
  return absl::OkStatus();
}

// Protected neurons never go, so the narrowest layer must hold them.
absl::Status CheckProtected(const RemovalOrder& order, int64_t width, int64_t alignment,
                            PlannedExpert& planned) {
  for (const std::vector<uint16_t>& channels : order.protected_channels) {
    planned.protected_counts.push_back(std::ssize(channels));
  }
  const auto most =
      std::max_element(planned.protected_counts.begin(), planned.protected_counts.end());
  if (*most <= width) return absl::OkStatus();
  const int64_t enough = std::min<int64_t>(std::ssize(order.layers.front()),
                                           (*most + alignment - 1) / alignment * alignment);
  return WithReason(
      WithField(absl::OutOfRangeError(absl::StrFormat(
                    "layer %d has %d protected neurons, which write too much of the residual "
                    "stream to go, and width %d keeps fewer: ask for a width of at least %d, or "
                    "use CUS_PRUN, which protects none",
                    most - planned.protected_counts.begin(), *most, width, enough)),
                "spec.budget"),
      "BUDGET_NOT_REACHABLE");
}

// Neurons and KV head groups weighed against one another, where the request leaves that open.
absl::StatusOr<Size> SizeWithGroups(const ResidentModel& model, const ExpertRequest& request,
                                    const ComposedRequest& composed, const Budget& budget,
                                    OtherChanges others) {
  others.kv_head_groups = request.kept_kv_head_groups;
  if (!request.kv_head_groups || request.kept_kv_head_groups != kAllGroups) {
    return SizeForBudget(model, request, budget, others);
  }
  return NotReachable(SolveMixed(model.config(), budget, request.alignment,
                                 StoredItemSize(model.folder()), others, request.group_target,
                                 composed.order, composed.groups));
}

absl::Status PlanUniform(const ResidentModel& model, const ExpertRequest& request,
                         const ComposedRequest& composed, const ExpertBudget& budget,
                         int64_t vocabulary, PlannedExpert& planned) {
  const RemovalOrder& order = composed.order;
  if (const auto* sigma = std::get_if<Sigma>(&budget)) {
    ASSIGN_OR_RETURN(planned.size,
                     SizeForSigma(model, order, sigma->value, request.alignment, vocabulary));
  } else {
    ASSIGN_OR_RETURN(planned.size,
                     SizeWithGroups(model, request, composed, std::get<Budget>(budget),
                                    {.vocabulary = vocabulary,
                                     .ffn_bias = request.compensation == Compensation::kBias}));
  }
  if (request.rule == Rule::kMean) {
    RETURN_IF_ERROR(CheckProtected(order, planned.size.width, request.alignment, planned));
  } else {
    planned.sigma = SigmaForRemoved(order, model.config().intermediate_size - planned.size.width);
    planned.irrelevant_counts = IrrelevantCounts(order, planned.sigma);
  }
  planned.mask = SelectUniform(order, planned.size.width, kComposeThreads);
  if (planned.size.kv_head_groups < model.config().num_kv_heads) {
    planned.mask.attention =
        KeptAttentionOf(HeadsOf(model.config()),
                        SelectGroups(composed.groups, planned.size.kv_head_groups, request.shape));
  }
  return absl::OkStatus();
}

// Every neuron stays.
void PlanNoNeurons(const ResidentModel& model, int64_t vocabulary, PlannedExpert& planned) {
  const ModelConfig& config = model.config();
  std::vector<int32_t> all(static_cast<size_t>(config.intermediate_size));
  std::iota(all.begin(), all.end(), 0);
  planned.mask.kept.assign(static_cast<size_t>(config.num_layers), all);
  planned.size = SizeAtWidth(config, config.intermediate_size, StoredItemSize(model.folder()),
                             {.vocabulary = vocabulary});
}

// How many rows of the vocabulary stay.
absl::StatusOr<int64_t> RowsOf(const VocabularyPlan& plan, int64_t asked) {
  const auto all = static_cast<int64_t>(plan.order.rows.size());
  if (asked == 0) return plan.rows;
  const int64_t rows = RoundedRows(asked, all);
  if (asked <= all && rows >= plan.order.required) return rows;
  return WithReason(
      WithField(absl::OutOfRangeError(StrCat("vocabulary_size ", asked,
                                             " cannot be had: special tokens, bytes, ASCII "
                                             "characters and the chat template need ",
                                             RoundedRows(plan.order.required, all),
                                             " rows, the base has ", all)),
                "spec.vocabulary_size"),
      "BUDGET_NOT_REACHABLE");
}

absl::Status PlanVocabulary(const ResidentModel& model, const ExpertRequest& request,
                            const VocabularyPlan& plan, PlannedExpert& planned) {
  ASSIGN_OR_RETURN(const int64_t rows, RowsOf(plan, request.vocabulary_size));
  if (rows == static_cast<int64_t>(plan.order.rows.size())) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto trimmer, model.vocabulary().Trimmer());
  planned.kept = trimmer->Keep(plan.order, rows);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ComposedRequest> ComposeRequest(const ResidentModel& model,
                                               const ExpertRequest& request,
                                               ResolvedSources sources, const Stores& stores) {
  ComposedRequest composed;
  composed.sources = std::move(sources);
  if (!request.neurons) return composed;
  RETURN_IF_ERROR(AddGeneralText(model, request, stores, composed.sources));
  ASSIGN_OR_RETURN(composed.profiles,
                   FindProfiles(model, CorporaOf(composed.sources.views),
                                ProfileSettingsOf(request), "spec.select", stores));
  const absl::Time start = absl::Now();
  std::vector<WeightedView> weighted;
  for (const ResolvedView& view : composed.sources.views) {
    std::vector<const ProfileInfo*> profiles;
    for (const CorpusInfo& corpus : view.corpora) {
      for (const ProfileInfo& profile : composed.profiles) {
        if (profile.key.corpus_digest == corpus.digest) profiles.push_back(&profile);
      }
    }
    ASSIGN_OR_RETURN(composed.views.emplace_back(), MergedView(profiles, request.view, stores));
    weighted.push_back({composed.views.back().get(), view.weight});
  }
  ASSIGN_OR_RETURN(composed.order, Compose(request.rule, weighted, kComposeThreads));
  if (request.attention_channels) {
    ASSIGN_OR_RETURN(composed.attention, ComposeAttention(weighted));
  }
  if (request.kv_head_groups) {
    ASSIGN_OR_RETURN(composed.groups, ComposeGroups(weighted));
  }
  stores.metrics.compose_duration.Observe(absl::ToDoubleSeconds(absl::Now() - start));
  return composed;
}

ProfileSettings ProfileSettingsOf(const ExpertRequest& request) {
  return {.max_document_tokens = request.max_document_tokens,
          .attention = request.attention_channels};
}

absl::Status AddVocabulary(const ResidentModel& model, const ExpertRequest& request,
                           const Stores& stores, RunContext& context, ComposedRequest& composed) {
  if (!request.vocabulary) return absl::OkStatus();
  ASSIGN_OR_RETURN(composed.vocabulary,
                   model.vocabulary().Plan(composed.sources.corpora, stores.corpora, context));
  return absl::OkStatus();
}

absl::StatusOr<Size> SizeForBudget(const ResidentModel& model, const ExpertRequest& request,
                                   const Budget& budget, const OtherChanges& others) {
  return NotReachable(SolveWidth(model.config(), budget, request.alignment,
                                 StoredItemSize(model.folder()), others));
}

absl::StatusOr<PlannedExpert> PlanSize(const ResidentModel& model, const ExpertRequest& request,
                                       const ComposedRequest& composed,
                                       const ExpertBudget& budget) {
  PlannedExpert planned;
  if (composed.vocabulary != nullptr) {
    RETURN_IF_ERROR(PlanVocabulary(model, request, *composed.vocabulary, planned));
  }
  const int64_t rows = planned.kept ? planned.kept->rows : kWholeVocabulary;
  const auto* sigma = std::get_if<Sigma>(&budget);
  const bool strict_sets = request.neurons && sigma != nullptr && request.shape == Shape::kMasked;
  if (!request.neurons) {
    PlanNoNeurons(model, rows, planned);
  } else if (strict_sets) {
    RETURN_IF_ERROR(PlanStrictSets(model, composed, sigma->value, planned));
  } else {
    RETURN_IF_ERROR(PlanUniform(model, request, composed, budget, rows, planned));
  }
  if (planned.kept) {
    planned.mask.vocabulary.assign(planned.kept->ids.begin(), planned.kept->ids.begin() + rows);
  }
  ASSIGN_OR_RETURN(const Digest base, model.digest());
  planned.resolved = ResolveRequest(
      request, composed.sources,
      strict_sets ? ResolvedBudget(*sigma) : ResolvedBudget(Width{planned.size.width}),
      planned.size, model.config().num_kv_heads, base);
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
