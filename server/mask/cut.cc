#include "server/mask/cut.h"

#include <algorithm>
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

}  // namespace secateur
