// Model families as data: one row says what a family's config.json leaves out, which pieces its
// layers have and how its norms are called. What a row cannot say is not supported.
//
// Rows follow the installed Transformers: a key that a config.json lacks has the value that the
// family's configuration class gives it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace secateur {

struct Family {
  std::string_view model_type;  // config.json's

  // Values of absent keys. 0: one key-value head for each query head; hidden_size / heads.
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  double norm_eps = 1e-6;
  bool tied_embeddings = false;
  int64_t bos_token_id = 0;
  int64_t eos_token_id = 0;
  std::string_view activation_key;  // the key itself differs: hidden_act, hidden_activation
  std::string_view activation;
  double rope_theta = 10000.0;

  // Pieces.
  double norm_offset = 0.0;
  bool qk_norm = false;
  bool post_norms = false;
  bool scaled_embedding = false;  // embeddings times sqrt(hidden_size)
  bool mlp_bias = false;          // honours the key "mlp_bias"
  // 0: attention scores are scaled by head_dim^-1/2; else by query_pre_attn_scalar^-1/2, which is
  // this where absent.
  double query_pre_attn_scalar = 0.0;
  // 0: every layer has full attention; else layers with a sliding window exist, by layer_types or
  // each but every sliding_window_pattern-th, with their own rope base.
  int64_t sliding_window = 0;
  int64_t sliding_window_pattern = 0;
  double local_rope_theta = 0.0;

  // The norm in front of the FFN within a layer; Llama calls it after the attention it follows.
  std::string_view pre_ffn_norm;
};

std::span<const Family> Families();
// Null when there is none.
const Family* FindFamily(std::string_view model_type);

}  // namespace secateur
