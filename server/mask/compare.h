// How alike two views are in what they need: the neurons that each would keep, and the order of
// their relevance. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/mask/mask.h"
#include "server/profile/dimension.h"

namespace secateur {

// What comparing needs of one view, made once and used for every pair.
struct ComparableView {
  Mask kept;
  // For each layer the rank of each neuron's relevance, 1 to its width; equal ones share the mean
  // of their ranks.
  std::vector<std::vector<float>> ranks;
};

// Keeps `width` neurons of every layer as Rule::kMean does for this view alone. INVALID_ARGUMENT
// for a width outside 1 to the view's, and as Compose().
absl::StatusOr<ComparableView> MakeComparable(const RelevanceView& view, int64_t width);

struct ViewComparison {
  // Neurons that both keep over neurons that either keeps, 0 to 1: all layers together, then each.
  double jaccard = 0;
  std::vector<double> layer_jaccards;
  // Spearman's rank correlation of relevance, -1 to 1: the mean over layers, then each. 0 for a
  // layer in which all neurons of a view are equally relevant.
  double rank_correlation = 0;
  std::vector<double> layer_rank_correlations;
};

// INVALID_ARGUMENT unless both have the same layers and widths.
absl::StatusOr<ViewComparison> CompareViews(const ComparableView& a, const ComparableView& b);

// Jaccard of two sets that keep `width` of `neurons` each without knowing of one another: about
// what chance gives.
double JaccardByChance(int64_t width, int64_t neurons);

}  // namespace secateur
