#include "server/model/families.h"

namespace secateur {
namespace {

constexpr Family kFamilies[] = {
    // Llama 2 and 3.x, SmolLM2.
    {.model_type = "llama",
     .max_positions = 2048,
     .bos_token_id = 1,
     .eos_token_id = 2,
     .activation_key = "hidden_act",
     .activation = "silu",
     .mlp_bias = true,
     .pre_ffn_norm = "post_attention_layernorm.weight"},
    {.model_type = "gemma3_text",
     .num_kv_heads = 4,
     .head_dim = 256,
     .max_positions = 131072,
     .tied_embeddings = true,
     .bos_token_id = 2,
     .eos_token_id = 1,
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .rope_theta = 1e6,
     .norm_offset = 1.0,
     .qk_norm = true,
     .post_norms = true,
     .scaled_embedding = true,
     .query_pre_attn_scalar = 256.0,
     .sliding_window = 4096,
     .sliding_window_pattern = 6,
     .local_rope_theta = 1e4,
     .pre_ffn_norm = "pre_feedforward_layernorm.weight"},
};

}  // namespace

std::span<const Family> Families() { return kFamilies; }

const Family* FindFamily(std::string_view model_type) {
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

}  // namespace secateur
