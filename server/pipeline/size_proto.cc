#include "server/pipeline/size_proto.h"

namespace secateur {

v1::Size ToProto(const Size& size, const ModelFolder& folder) {
  const ModelConfig& config = folder.config();
  v1::Size out;
  out.set_width(size.width);
  out.set_vocabulary_size(size.vocabulary);
  out.set_parameter_count(size.parameters);
  out.set_tensor_bytes(size.bytes);
  out.set_neuron_ratio(size.neuron_ratio);
  out.set_parameter_reduction(size.parameter_reduction);
  out.set_block_parameter_reduction(size.block_reduction);
  out.set_kv_head_groups(size.kv_head_groups);
  out.set_kv_cache_bytes_per_token(2 * config.num_layers * size.kv_head_groups * config.head_dim *
                                   StoredItemSize(folder));
  return out;
}

v1::VocabularyResult ToProto(const VocabularyPlan& plan, const PlannedExpert& planned) {
  v1::VocabularyResult out;
  out.set_required_rows(plan.order.required);
  out.set_text_rows(plan.order.needed);
  out.set_split_token_share(plan.SplitShare(planned.size.vocabulary));
  return out;
}

v1::AttentionResult RemovedAttention(const Mask& mask, const ModelConfig& config) {
  const int64_t query = config.num_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  v1::AttentionResult out;
  for (const KeptAttention& layer : mask.attention) {
    out.add_query_row_counts(query - std::ssize(layer.query));
    out.add_key_row_counts(kv - std::ssize(layer.key));
    out.add_value_row_counts(kv - std::ssize(layer.value));
    out.add_output_column_counts(query - std::ssize(layer.output));
  }
  return out;
}

}  // namespace secateur
