// Merging profiles of corpora into what composing reads (ALGORITHM 3.3, "merging corpora").
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/profile/profile.h"

namespace secateur {

// Largest ranks of the units of one layer, over all documents.
using AttentionRanks = AttentionSets<std::vector<uint16_t>>;

// How the scores of documents become one relevance: a mean over documents, none of which counts
// more for being long. What was measured: within one cell hardly a difference (ALGORITHM 0.1).
enum class Statistic {
  kRelative,     // s^2 as a share of the layer's sum, by the relative score; sums to about 1
  kPaper,        // the same by the paper's score, which weighs all tokens alike
  kLogRelative,  // kLogShift + ln(s^2), by the relative score: no document outweighs the others
  kRank,         // rank by the paper's score as a share of the layer's neurons, 0 to below 1
};
// Makes every logarithm positive (the least is that of 1e-30), and changes no order.
inline constexpr double kLogShift = 70;

// What a view is made of.
struct ViewOptions {
  Statistic statistic = Statistic::kRelative;
  // Cus-Prun relaxed (ALGORITHM 3.1): the share of documents in which a neuron must be irrelevant,
  // above 0. 1 is the published rule, every document.
  double quantile = 1;
};

// A view of one or more corpora: for each layer a mean relevance and the largest rank. 6 bytes a
// neuron, 4 for the half, 4 a KV head group, 2 a unit of attention. Immutable after it is made.
struct RelevanceView {
  struct Layer {
    std::vector<float> relevance;  // by ViewOptions::statistic
    // The paper's R (ALGORITHM 3.1): a rank that at least the share `quantile` of all documents
    // does not pass; the largest over all of them at 1.
    std::vector<uint16_t> max_rank;
    // Ascending: neurons that LayerStatistics::IsProtected() in any of the profiles.
    std::vector<uint16_t> protected_channels;
    // The part of `relevance` that comes from documents of one half; empty but for kRelative.
    std::vector<float> half;
    // Whatever the statistic, in one unit that makes groups and neurons comparable, the relative
    // squared change of the residual stream (ALGORITHM 2.4), as means over documents:
    std::vector<float> group_score;  // s_g^2, by KV head group; all 0 where there is but one
    double score_total = 0;          // sum over all neurons of s_k^2
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

// Ranks are kept in part (kTopRanks), so a quantile of many documents is known from here on.
double LeastQuantile(int64_t documents);

// REQUIRES: a quantile of LeastQuantile() to 1.
RelevanceView ViewOf(const Profile& profile, const ViewOptions& options = {});
// The mean over corpora of each corpus's per-document mean, corpus c weighted by
// min(documents, kCorpusWeightCap); the largest rank is the maximum, so with a quantile below 1
// profiles are merged instead (Profile::Merge). Give the views in the order of their corpus
// digests: floating sums depend on it. INVALID_ARGUMENT for none or unequal shapes.
absl::StatusOr<RelevanceView> MergeViews(const std::vector<const RelevanceView*>& corpora);

}  // namespace secateur
