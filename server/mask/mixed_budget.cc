#include "server/mask/mixed_budget.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>

namespace secateur {
namespace {

// The sum of a layer's `removed` first neurons: keys are bits of relevance, and the sign bit of
// protected ones, which go last (RemovalOrder).
double RemovedOfLayer(std::vector<uint32_t> keys, int64_t removed) {
  const auto end = keys.begin() + removed;
  std::nth_element(keys.begin(), end, keys.end());
  double sum = 0;
  for (auto key = keys.begin(); key != end; ++key) {
    sum += static_cast<double>(std::bit_cast<float>(*key & 0x7fff'ffffu));
  }
  return sum;
}

}  // namespace

std::vector<std::vector<int32_t>> SelectGroups(const GroupOrder& order, int64_t kept, Shape shape) {
  return shape == Shape::kMasked ? SelectGroupsByLayer(order, kept)
                                 : SelectGroupsUniform(order, kept);
}

std::vector<int64_t> PossibleGroups(const ModelConfig& config, const GroupTarget& target) {
  const int64_t devices = target.tensor_parallel_degree;
  std::vector<int64_t> possible;
  for (int64_t kept = 1; kept < config.num_kv_heads; ++kept) {
    const int64_t heads = config.num_heads / config.num_kv_heads * kept;
    const bool shared = heads % devices == 0 && (kept % devices == 0 || devices % kept == 0);
    if (target.shape == Shape::kMasked || (config.hidden_size % heads == 0 && shared)) {
      possible.push_back(kept);
    }
  }
  possible.push_back(config.num_kv_heads);
  return possible;
}

double RemovedRelevance(const RemovalOrder& order, const std::vector<double>& totals,
                        int64_t width) {
  double removed = 0;
  for (size_t layer = 0; layer < order.layers.size(); ++layer) {
    const std::vector<uint32_t>& keys = order.layers[layer];
    removed += totals[layer] * RemovedOfLayer(keys, std::ssize(keys) - width);
  }
  return removed;
}

absl::StatusOr<Size> SolveMixed(const ModelConfig& config, const Budget& budget, int64_t alignment,
                                int64_t item_size, const OtherChanges& others,
                                const GroupTarget& target, const RemovalOrder& order,
                                const GroupOrder& groups) {
  const std::vector<int64_t> possible = PossibleGroups(config, target);
  size_t narrowest = 0;  // width that holds every layer's protected neurons
  for (const std::vector<uint16_t>& channels : order.protected_channels) {
    narrowest = std::max(narrowest, channels.size());
  }
  absl::StatusOr<Size> best;
  double least = std::numeric_limits<double>::infinity();
  for (auto kept = possible.rbegin(); kept != possible.rend(); ++kept) {
    if (2 * *kept < config.num_kv_heads) break;
    OtherChanges with_groups = others;
    with_groups.kv_head_groups = *kept;
    const absl::StatusOr<Size> size = SolveWidth(config, budget, alignment, item_size, with_groups);
    if (!size.ok() || size->width < static_cast<int64_t>(narrowest)) {
      // Kept while nothing else is found: what the caller is to tell.
      if (least == std::numeric_limits<double>::infinity()) best = size;
      continue;
    }
    const double removed = RemovedRelevance(order, groups.neuron_totals, size->width) +
                           RemovedScore(groups, SelectGroups(groups, *kept, target.shape));
    if (!(removed < least)) continue;
    least = removed;
    best = size;
  }
  return best;
}

}  // namespace secateur
