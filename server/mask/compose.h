// Weighted views of profiles to one mask, in milliseconds.
//
// Mean: relevance_k = sum_i weight_i * view_i.relevance_k (weights normalised to sum 1), whatever
// statistic the views are of (the API's RELATIVE_MEAN, PAPER_MEAN, LOG_MEAN and RANK_MEAN); a layer
// keeps the `width` most relevant neurons, ties go to the lower channel.
// Cus-Prun (ACL Findings 2025; ALGORITHM 3.1): R_k = max_i view_i.max_rank_k; neuron k is
// irrelevant at sigma when R_k / m < sigma, i.e. it is in the bottom sigma share of its layer in
// every document of every view, or in the views' quantile of them. Removal order: ascending (R_k,
// channel). Weights do not apply. The mean removes neurons that any view protects
// (LayerStatistics::IsProtected) after all others; Cus-Prun, as published, protects none. Pure
// functions; use up to `threads` threads. The result depends neither on `threads` nor on the order
// of the views.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/mask/mask.h"
#include "server/mask/weighted_views.h"

namespace secateur {

enum class Rule { kMean, kCusPrun };

// Per layer, per neuron: a key that says when it is removed, smallest first. 4 bytes a neuron.
//   Mean:     the bits of the relevance as a float, whose order is that of the non-negative numbers
//             they stand for, and the sign bit for protected neurons; of equal keys the higher
//             channel is removed first.
//   Cus-Prun: R_k * 2^16 + channel: all distinct within a layer.
struct RemovalOrder {
  Rule rule = Rule::kMean;
  std::vector<std::vector<uint32_t>> layers;
  // For each layer the protected channels, ascending. All empty for Cus-Prun.
  std::vector<std::vector<uint16_t>> protected_channels;
};

// INVALID_ARGUMENT for what CheckViews() refuses, unequal or impossible shapes, a relevance that is
// negative or not finite, or a rank or a protected channel that no neuron can have.
absl::StatusOr<RemovalOrder> Compose(Rule rule, const std::vector<WeightedView>& views,
                                     int threads = 2);

// Keeps `width` neurons in every layer, 1 <= width <= m: selection, not sorting.
Mask SelectUniform(const RemovalOrder& order, int64_t width, int threads = 2);

// Cus-Prun only: keeps all but the strict set of each layer at `sigma` in [0, 1]: the published
// form, in which layers lose different counts. Up to LargestSigma() every layer keeps a neuron.
Mask SelectRelevant(const RemovalOrder& order, double sigma);

// Cus-Prun only: the largest sigma at which every layer keeps a neuron; (m - 1) / m where ranks are
// the largest over all documents.
double LargestSigma(const RemovalOrder& order);

// Cus-Prun only: for each layer the size of the strict set at `sigma` in [0, 1].
std::vector<int64_t> IrrelevantCounts(const RemovalOrder& order, double sigma);
// Cus-Prun only: the smallest sigma at which every layer's strict set holds at least `removed`
// neurons, 0 <= removed <= m: (largest R removed + 1) / m, and 0 for none.
double SigmaForRemoved(const RemovalOrder& order, int64_t removed);

}  // namespace secateur
