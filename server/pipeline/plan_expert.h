// From a request to masks and sizes, from cached profiles alone: no forward pass, but for the rows
// of a vocabulary (vocabulary_planner.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "secateur/v1/manifest.pb.h"
#include "server/mask/attention_mask.h"
#include "server/mask/compose.h"
#include "server/mask/group_mask.h"
#include "server/pipeline/build_profile.h"
#include "server/pipeline/expert_request.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/resolve_sources.h"
#include "server/pipeline/stores.h"
#include "server/pipeline/vocabulary_planner.h"

namespace secateur {

// Relevance composed for one selection, and what it needs of the vocabulary; sizes are cut from it.
struct ComposedRequest {
  ResolvedSources sources;            // with general text, if it has a weight
  std::vector<ProfileInfo> profiles;  // of the corpora of all views, sorted by corpus digest
  std::vector<std::shared_ptr<const RelevanceView>> views;  // of `sources.views`, in their order
  RemovalOrder order;                                       // empty where no neurons go
  AttentionOrder attention;                                 // empty where no channels of it go
  GroupOrder groups;                                        // empty where no KV head groups go
  std::shared_ptr<const VocabularyPlan> vocabulary;         // null where no rows go
};

// General text is every calibration corpus that has a profile by now. Without AddVocabulary().
// FAILED_PRECONDITION naming corpora that have no profile yet (at most five), if neurons are to go.
absl::StatusOr<ComposedRequest> ComposeRequest(const ResidentModel& model,
                                               const ExpertRequest& request,
                                               ResolvedSources sources, const Stores& stores);

// What profiles the request takes.
ProfileSettings ProfileSettingsOf(const ExpertRequest& request);

// Plans the vocabulary from the corpora of `composed.sources`, if rows are to go. As
// VocabularyPlanner::Plan().
absl::Status AddVocabulary(const ResidentModel& model, const ExpertRequest& request,
                           const Stores& stores, RunContext& context, ComposedRequest& composed);

struct PlannedExpert {
  Size size;
  Mask mask;  // of neurons with compensation: the plain one, before any forward pass
  std::optional<KeptVocabulary> kept;      // of `mask.vocabulary` with all ids; none: all rows stay
  double sigma = 0;                        // CUS_PRUN
  std::vector<int64_t> irrelevant_counts;  // CUS_PRUN, by layer, at `sigma`
  std::vector<int64_t> protected_counts;   // by layer; empty for CUS_PRUN and where no neurons go
  v1::ResolvedRequest resolved;
  std::string expert_id;
};

// SolveWidth for this model and request, and `kv_head_groups` that stay; OUT_OF_RANGE comes with
// the field and the reason of the API.
absl::StatusOr<Size> SizeForBudget(const ResidentModel& model, const ExpertRequest& request,
                                   const Budget& budget, const OtherChanges& others);

// `budget` replaces the request's. OUT_OF_RANGE as SizeForBudget; for sigma also when the strict
// sets are too small to remove one aligned step, naming the smallest sigma that would do; for a
// vocabulary_size that is smaller than what must stay or larger than the base's, naming both; for a
// width that is smaller than the protected neurons of a layer, naming it and the least that will
// do.
absl::StatusOr<PlannedExpert> PlanSize(const ResidentModel& model, const ExpertRequest& request,
                                       const ComposedRequest& composed, const ExpertBudget& budget);

// The model's own size.
Size BaseSize(const ResidentModel& model);
// Bytes of an element of the stored type: that of the first tensor, whatever the others have.
int64_t StoredItemSize(const ModelFolder& folder);

}  // namespace secateur
