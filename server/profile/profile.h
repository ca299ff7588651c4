// Mergeable statistics of all FFN neurons of one base model over documents (ALGORITHM 3.3), and of
// attention where they were asked for; of all KV head groups, too.
//
// Per document c and layer, with a_k(t) the activation of neuron k, w_k its column of down_proj, h
// the residual stream after the sublayer, o the sublayer's output before a post norm, T tokens:
//   relative: s_k^2 = ||w_k||^2 (1/T) sum_t omega_t a_k(t)^2, omega_t = 1/||h(t)||^2
//   (ALGORITHM 2.4)
//             post-norm families: omega_t = d / (||o(t)||^2 ||h(t)||^2), w_k times the norm's gain
//   paper:    the same with omega_t = 1 and w_k unscaled: the squared Frobenius norm of the change
//   of
//             the layer's output when the neuron is removed (Cus-Prun, ALGORITHM 2.1), over T
// A KV head group g, one key head with its value head and all query heads that read them, has the
// relative score alone, of the attention sublayer: with z_g what its query heads give o_proj and
// W_O^g the columns that read it
//   s_g^2 = (1/T) sum_t omega_t ||W_O^g z_g(t)||^2, exact but for a post norm (ALGORITHM 2.2)
// in the unit of the neurons' relative score, so that groups and neurons compare.
// Every sum is an integer: per-document values (of groups: those of a block, a whole number of
// documents) are rounded to fixed point once, so merging any split in any order gives the same
// bytes. Plain data; thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/profile/attention_statistics.h"
#include "server/profile/top_ranks.h"

namespace secateur {

inline constexpr int kScoringVersion = 3;
// Fixed point: one unit is 2^-40.
inline constexpr double kScoreUnit = 1.0 / (int64_t{1} << 40);
// Logarithms: one unit is 2^-20.
inline constexpr double kLogUnit = 1.0 / (1 << 20);
// Mean activations: one unit is 2^-24; a document counts for at most +-2^17.
inline constexpr double kActivationUnit = 1.0 / (1 << 24);
inline constexpr double kActivationLimit = 1 << 17;
// Up to here no sum of AddDocument can overflow.
inline constexpr int64_t kMaxDocuments = int64_t{1} << 21;

// A neuron whose write into one coordinate of the residual stream came to more than this share of
// the stream's largest coordinate is protected (super weights, Yu et al. 2411.07191;
// ALGORITHM 7.1).
inline constexpr float kProtectedShare = 0.1f;

// All vectors have intermediate_size entries, but top_ranks and group_score.
struct LayerStatistics {
  std::vector<uint64_t> normalized;        // sum over documents of s_k^2 / sum_j s_j^2, relative;
                                           // 0 for a document whose squares are all 0
  std::vector<uint64_t> paper_normalized;  // the same for the paper's score
  std::vector<uint64_t> score;             // sum over documents of relative s_k^2 (saturating)
  std::vector<int64_t> log_score;          // sum over documents of ln(s_k^2 + 1e-30), relative
  std::vector<uint64_t> rank;              // sum over documents of the rank, 0 = least relevant,
                                           // by (paper score, channel): a permutation
  std::vector<int64_t> activation;  // sum over documents of (1/T) sum_t a_k(t) (mean, for bias)
  std::vector<float> peak;  // max over tokens of the largest coordinate that the neuron writes
                            // into the residual stream: |a_k| ||w_k||_inf, and in post-norm
                            // families |a_k| ||g o w_k||_inf sqrt(d) / ||o||, g the norm's gain
  // The largest kTopRanks per-document ranks of each neuron, descending, [neuron][kTopRanks]; the
  // first min(documents, kTopRanks) entries of a row are used, the rest is 0.
  std::vector<uint16_t> top_ranks;
  // `normalized` of the documents of one half (document_half.h) alone: how much the other half
  // would change a mask says whether there are enough of them.
  std::vector<uint64_t> half_normalized;
  float residual_peak = 0;  // max over tokens of ||h||_inf
  // Sum over documents of s_g^2 of each KV head group (saturating). All 0 in models of one KV head,
  // where no group can go.
  std::vector<uint64_t> group_score;

  bool IsProtected(size_t channel) const { return peak[channel] > kProtectedShare * residual_peak; }
};

struct Profile {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t dropped_tokens = 0;
  int64_t half_documents = 0;  // those that half_normalized counts
  std::vector<LayerStatistics> layers;
  AttentionProfile attention;  // of the same documents, where it was asked for

  // An empty profile, without attention. INVALID_ARGUMENT for a number below 1, UNIMPLEMENTED for
  // more than 65,536 neurons a layer (ranks are 16 bits).
  static absl::StatusOr<Profile> Empty(int64_t num_layers, int64_t intermediate_size,
                                       int64_t kv_head_groups);
  int64_t intermediate_size() const {
    return layers.empty() ? 0 : static_cast<int64_t>(layers[0].normalized.size());
  }
  int64_t kv_head_groups() const {
    return layers.empty() ? 0 : static_cast<int64_t>(layers[0].group_score.size());
  }
  // Adds `other`'s documents, which must be different ones: commutative, associative, exact.
  // INVALID_ARGUMENT when the shapes differ or only one knows attention, OUT_OF_RANGE when a sum
  // would overflow or documents pass kMaxDocuments; nothing has changed then.
  absl::Status Merge(const Profile& other);

  friend bool operator==(const Profile&, const Profile&);
};

// One document's statistics of one layer, before rounding: what an accumulator adds.
struct DocumentScores {
  std::vector<float> relative;    // s_k^2
  std::vector<float> paper;       // s_k^2
  std::vector<float> activation;  // mean over tokens of a_k
  std::vector<float> peak;        // as LayerStatistics::peak
  float residual_peak = 0;        // max over tokens of ||h||_inf
  bool in_half = false;           // whether it counts in half_normalized
};
// Rounds, ranks and adds. DATA_LOSS for a NaN, an infinity or a negative square, naming the
// channel; INVALID_ARGUMENT for vectors of another width, OUT_OF_RANGE from kMaxDocuments on;
// nothing has changed then. The caller counts documents and tokens.
absl::Status AddDocument(const DocumentScores& scores, int64_t documents_before,
                         LayerStatistics& statistics);

}  // namespace secateur
