#include "server/mask/cut.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "server/model/tensor_table.h"

namespace secateur {

ModelConfig WithAddedTensors(const ModelConfig& base, const Cut& cut) {
  ModelConfig config = base;
  if (base.mlp_bias || cut.replaced == nullptr) return config;
  config.mlp_bias = true;
  const std::vector<TensorInfo> table = TensorTable(config);
  config.mlp_bias = std::any_of(table.begin(), table.end(), [&](const TensorInfo& info) {
    return info.role == TensorRole::kDownBias && cut.replaced->Find(info.name) != nullptr;
  });
  return config;
}

AttentionHeads HeadsOf(const ModelConfig& config) {
  return {config.num_heads, config.num_kv_heads, config.head_dim};
}

AttentionHeads HeadsOf(const ModelConfig& base, const Cut& cut) {
  AttentionHeads heads = HeadsOf(base);
  if (cut.shape != Shape::kUniform || cut.mask.attention.empty()) return heads;
  const KeptAttention& kept = cut.mask.attention[0];
  heads.heads = std::ssize(kept.query) / heads.head_dim;
  heads.kv_heads = std::ssize(kept.key) / heads.head_dim;
  return heads;
}

}  // namespace secateur
