#include "server/pipeline/size_proto.h"

#include "server/pipeline/plan_expert.h"

namespace secateur {

v1::Size ToProto(const Size& size, const ModelFolder& folder) {
  const ModelConfig& config = folder.config();
  v1::Size out;
  out.set_width(size.width);
  out.set_parameter_count(size.parameters);
  out.set_tensor_bytes(size.bytes);
  out.set_neuron_ratio(size.neuron_ratio);
  out.set_parameter_reduction(size.parameter_reduction);
  out.set_block_parameter_reduction(size.block_reduction);
  out.set_kv_cache_bytes_per_token(2 * config.num_layers * config.num_kv_heads * config.head_dim *
                                   StoredItemSize(folder));
  return out;
}

}  // namespace secateur
