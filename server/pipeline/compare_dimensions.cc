#include "server/pipeline/compare_dimensions.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/mask/compare.h"
#include "server/pipeline/dimension_view.h"
#include "server/pipeline/resolve_sources.h"

namespace secateur {
namespace {

// The corpora of each value, as an expert of all of them would compose them.
absl::StatusOr<std::vector<ResolvedView>> Resolve(const DimensionRequest& request,
                                                  const CorpusStore& corpora) {
  ExpertRequest composed;
  composed.source = RelevanceSource::kCompose;
  for (const auto& [key, value] : request.values) {
    composed.select.push_back({.key = key, .values = {value}, .weight = 1});
  }
  auto sources = ResolveSources(composed, corpora);
  if (!sources.ok()) return WithField(sources.status(), "values");
  return std::move(sources->views);
}

absl::StatusOr<ComparableView> Comparable(const ResidentModel& model, const ResolvedView& view,
                                          const DimensionRequest& request, int64_t width,
                                          const Stores& stores) {
  ASSIGN_OR_RETURN(
      const std::vector<ProfileInfo> profiles,
      FindProfiles(model, view.corpora, {.max_document_tokens = request.max_document_tokens},
                   "values", stores));
  std::vector<const ProfileInfo*> parts;
  for (const ProfileInfo& profile : profiles) parts.push_back(&profile);
  ASSIGN_OR_RETURN(const auto merged, MergedView(parts, {}, stores));
  return MakeComparable(*merged, width);
}

int64_t CountShared(const ResolvedView& a, const ResolvedView& b) {
  return std::count_if(a.corpora.begin(), a.corpora.end(), [&](const CorpusInfo& corpus) {
    return std::any_of(b.corpora.begin(), b.corpora.end(),
                       [&](const CorpusInfo& other) { return other.digest == corpus.digest; });
  });
}

void SetValue(const std::pair<std::string, std::string>& from, v1::DimensionValue& to) {
  to.set_key(from.first);
  to.set_value(from.second);
}

}  // namespace

absl::StatusOr<ComparedDimensions> CompareDimensions(const ResidentModel& model,
                                                     const DimensionRequest& request,
                                                     const Stores& stores) {
  ASSIGN_OR_RETURN(const std::vector<ResolvedView> views, Resolve(request, stores.corpora));
  const int64_t neurons = model.config().intermediate_size;
  ComparedDimensions result;
  result.width =
      std::max<int64_t>(std::llround((1 - request.neuron_ratio) * static_cast<double>(neurons)), 1);
  result.jaccard_by_chance = JaccardByChance(result.width, neurons);
  std::vector<ComparableView> comparable;
  for (const ResolvedView& view : views) {
    ASSIGN_OR_RETURN(comparable.emplace_back(),
                     Comparable(model, view, request, result.width, stores));
  }
  for (size_t i = 0; i < views.size(); ++i) {
    for (size_t j = i + 1; j < views.size(); ++j) {
      ASSIGN_OR_RETURN(const ViewComparison compared, CompareViews(comparable[i], comparable[j]));
      v1::DimensionComparison& pair = result.pairs.emplace_back();
      SetValue(request.values[i], *pair.mutable_first());
      SetValue(request.values[j], *pair.mutable_second());
      pair.set_jaccard(compared.jaccard);
      pair.mutable_layer_jaccards()->Add(compared.layer_jaccards.begin(),
                                         compared.layer_jaccards.end());
      pair.set_rank_correlation(compared.rank_correlation);
      pair.mutable_layer_rank_correlations()->Add(compared.layer_rank_correlations.begin(),
                                                  compared.layer_rank_correlations.end());
      pair.set_shared_corpus_count(CountShared(views[i], views[j]));
    }
  }
  return result;
}

}  // namespace secateur
