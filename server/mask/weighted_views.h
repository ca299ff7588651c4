// Views and what each counts for: what is composed. Pure.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "server/profile/dimension.h"

namespace secateur {

struct WeightedView {
  const RelevanceView* view = nullptr;
  double weight = 1.0;  // > 0, finite
};

// INVALID_ARGUMENT for no views, a null view, unequal numbers of layers, or a weight that is not
// positive and finite.
absl::Status CheckViews(const std::vector<WeightedView>& views);

// With weights of sum 1, and in an order of their content: equal sets of views are summed in the
// same order, however they were given, and floating sums depend on it. REQUIRES: CheckViews().
std::vector<WeightedView> Normalised(std::vector<WeightedView> views);

}  // namespace secateur
