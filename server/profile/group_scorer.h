// From what a layer's attention shows to the relevance of its KV head groups: the closed form of
// ALGORITHM 2.2 with the token weights of 2.4. Removing group g changes the sublayer's output at
// token t by W_O^g z_g(t), so with omega_t of TokenWeights() (scorer.h)
//   s_g^2 = (1/T) sum_t omega_t ||W_O^g z_g(t)||^2 = <W_O^g' W_O^g, (1/T) sum_t omega_t z_g z_g'>
// where before a post norm W_O's rows are times the norm's gain, to first order as for neurons. It
// is linear in the second moments of z: one product a group serves all documents of a block, each
// token counting 1/T of its own document.
//
// Through libtorch on the activations' device: products in float32, their sum in double. libtorch's
// exceptions pass through: call under the guard of server/model/torch_guard.h. Pure functions.
// Internal to server/profile.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "server/model/activation_tap.h"
#include "server/model/config.h"
#include "server/model/weights.h"

namespace secateur {

// For each KV head the sum over a block's documents of s_g^2: document i is rows [offsets[i],
// offsets[i+1]). DATA_LOSS, naming the group, for a score that is not finite or is negative by more
// than rounding. REQUIRES: no document is empty; `weights` are those of the activation's layer.
absl::StatusOr<std::vector<double>> ScoreGroups(const ModelConfig& config,
                                                const LayerWeights& weights,
                                                std::span<const int64_t> offsets,
                                                const AttentionActivation& activation);

}  // namespace secateur
