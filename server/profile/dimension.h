// Merging profiles of corpora into what composing reads (ALGORITHM 3.3, "merging corpora").
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/profile/profile.h"

namespace secateur {

// Largest ranks of the units of one layer, over all documents.
using AttentionRanks = AttentionSets<std::vector<uint16_t>>;

// A view of one or more corpora: for each layer a mean relevance score and the largest rank.
// 10 bytes a neuron, 2 a unit of attention. Immutable after it is made.
struct RelevanceView {
  struct Layer {
    std::vector<float> relevance;    // mean normalised squared relative score; sums to about 1
    std::vector<uint16_t> max_rank;  // over all documents: the paper's R (ALGORITHM 3.1)
    // Ascending: neurons that LayerStatistics::IsProtected() in any of the profiles.
    std::vector<uint16_t> protected_channels;
    std::vector<float> half;  // the part of `relevance` that comes from documents of one half
  };
  int64_t documents = 0;
  int64_t tokens = 0;
  double half_share = 0;  // that half's share of the documents, weighted as they are: 0 to 1
  std::vector<Layer> layers;
  // Largest ranks of attention, where all of the profiles have them; else no layers.
  AttentionHeads heads;
  std::vector<AttentionRanks> attention;

  int64_t bytes() const;
};

// Documents of one corpus beyond this count no further in a merge, so that one large corpus does
// not drown the rest.
inline constexpr int64_t kCorpusWeightCap = 64;

// The larger of each. REQUIRES: the same units.
void TakeLarger(const AttentionRanks& other, AttentionRanks& ranks);

RelevanceView ViewOf(const Profile& profile);
// The mean over corpora of each corpus's per-document mean, corpus c weighted by
// min(documents, kCorpusWeightCap); the largest rank is the maximum. Give the views in the order of
// their corpus digests: floating sums depend on it. INVALID_ARGUMENT for none or unequal shapes.
absl::StatusOr<RelevanceView> MergeViews(const std::vector<const RelevanceView*>& corpora);

}  // namespace secateur
