#include "server/mask/kept_units.h"

#include <functional>
#include <numeric>

namespace secateur {
namespace {

// Null where no such unit goes.
const std::vector<int32_t>* KeptAlong(Axis axis, TensorRole role, size_t layer, const Mask& mask) {
  if (axis == Axis::kNeuron) return &mask.kept[layer];
  if (mask.attention.empty()) return nullptr;
  const KeptAttention& attention = mask.attention[layer];
  if (axis == Axis::kQueryChannel) {
    return role == TensorRole::kOutput ? &attention.output : &attention.query;
  }
  if (axis == Axis::kKvChannel) {
    const bool key = role == TensorRole::kKey || role == TensorRole::kKeyBias;
    return key ? &attention.key : &attention.value;
  }
  return nullptr;
}

}  // namespace

KeptUnits FindKeptUnits(const TensorInfo& info, const Mask& mask) {
  if (info.layer < 0) return {};
  for (size_t axis = 0; axis < info.axes.size(); ++axis) {
    const std::vector<int32_t>* kept =
        KeptAlong(info.axes[axis], info.role, static_cast<size_t>(info.layer), mask);
    if (kept == nullptr || std::ssize(*kept) == info.shape[axis]) continue;
    return {.axis = static_cast<int>(axis), .kept = kept};
  }
  return {};
}

int64_t CountRemovedAttention(const ModelConfig& config, const Mask& mask) {
  int64_t removed = 0;
  for (const TensorInfo& info : TensorTable(config)) {
    const KeptUnits units = FindKeptUnits(info, mask);
    if (units.axis < 0 || info.axes[static_cast<size_t>(units.axis)] == Axis::kNeuron) continue;
    const int64_t elements =
        std::accumulate(info.shape.begin(), info.shape.end(), int64_t{1}, std::multiplies<>());
    const int64_t all = info.shape[static_cast<size_t>(units.axis)];
    removed += elements / all * (all - std::ssize(*units.kept));
  }
  return removed;
}

}  // namespace secateur
