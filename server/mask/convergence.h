// Are there enough documents behind a mask? Each view keeps apart what one half of its documents
// says (RelevanceView::half); the rest is the other half. Both halves are composed like the whole,
// and what they would remove is compared.
//
// The estimate for all documents: removed sets of equal size are two yes-or-no readings of
// relevance below the same quantile, so their overlap gives the tetrachoric correlation of
// relevance between the halves (Pearson 1900: the correlation of two normal variables that share as
// much below that quantile); Spearman-Brown, r' = L r / (1 + (L - 1) r), makes of it the
// correlation between all documents and as many others like them; and that gives the overlap to
// expect there. Applied to the overlap itself Spearman-Brown promises too much: near a sharp cut,
// disagreement falls with the square root of the documents, not with their number.
// server/mask/CONVERGENCE.md has figures.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/mask/compose.h"

namespace secateur {

// Below this agreement more documents are worth their while (CONVERGENCE.md).
inline constexpr double kEnoughAgreement = 0.8;

// Jaccard indices of sets of removed neurons: 0, nothing in common, to 1, the same.
struct Convergence {
  double split_half = 0;  // between the two halves, mean over layers
  double agreement = 0;   // estimate: between all documents and as many others like them
  // Times as many documents as there are would come to kEnoughAgreement, by the same estimate; at
  // most kMostGrowth. 1 or less where they do already.
  double growth = 0;
};
inline constexpr double kMostGrowth = 64;

// Two removal orders, one of each half, for any number of widths. Immutable.
class Halves {
 public:
  // For RELATIVE_MEAN; protected neurons are those of the whole. Nothing when all documents of a
  // view are in one half: too few to tell. INVALID_ARGUMENT for views without halves. REQUIRES:
  // views that Compose() takes.
  static absl::StatusOr<std::optional<Halves>> Compose(const std::vector<WeightedView>& views,
                                                       int threads = 2);

  // At `width` neurons a layer, 1 <= width < m.
  Convergence At(int64_t width, int threads = 2) const;

 private:
  RemovalOrder first_, second_;
  double lengthening_ = 2;  // L: all documents over one half, 2 for equal halves
};

// The pieces of the estimate, for `share` of the neurons removed, 0 < share < 1. Pure.
// The part of one set that the other has as well, 0 to 1, when relevance correlates by
// `correlation`, 0 to 1; and the correlation at which it is `overlap` (0 at or below chance).
double OverlapAt(double correlation, double share);
double CorrelationAt(double overlap, double share);

}  // namespace secateur
