// What a model is, as far as its forward pass and its tensors are concerned. Read from a Hugging
// Face config.json by its family's row (families.h). Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace secateur {

enum class Activation { kSilu, kGeluTanh };

struct RopeConfig {
  double theta = 10000.0;
  enum class Scaling { kNone, kLinear, kLlama3 } scaling = Scaling::kNone;
  double factor = 1.0;                 // kLinear, kLlama3
  double low_freq_factor = 1.0;        // kLlama3
  double high_freq_factor = 4.0;       // kLlama3
  int64_t original_max_positions = 0;  // kLlama3
};

struct ModelConfig {
  std::string model_type;  // "llama", "gemma3_text": the family's key
  int64_t vocabulary_size = 0;
  int64_t hidden_size = 0;        // d
  int64_t intermediate_size = 0;  // m, FFN neurons of every layer
  int64_t num_layers = 0;         // L
  int64_t num_heads = 0;          // H, query heads
  int64_t num_kv_heads = 0;       // G
  int64_t head_dim = 0;           // e
  int64_t max_positions = 0;
  double norm_eps = 1e-6;
  double norm_offset = 0.0;  // y = x/rms(x) * (offset + weight): 0 Llama, 1 Gemma
  Activation activation = Activation::kSilu;
  bool tied_embeddings = false;
  bool qk_norm = false;     // per-head norms on queries and keys
  bool post_norms = false;  // norms behind attention and FFN, before the residual addition
  bool attention_bias = false;
  bool mlp_bias = false;
  double embedding_scale = 1.0;  // rounded to the checkpoint's type as Transformers does
  double attention_scale = 0.0;  // multiplies q.k
  RopeConfig rope;               // layers with full attention
  RopeConfig local_rope;         // layers with a sliding window
  int64_t sliding_window = 0;    // tokens a position sees, itself included; 0 = none anywhere
  std::vector<bool> sliding;     // num_layers entries
  std::string dtype;             // of the checkpoint: "bfloat16" ...
  // Framing (corpus/packing.h): the id that opens every document: BOS, else EOS, else 0.
  int64_t first_token_id = 0;
};

// INVALID_ARGUMENT for a missing or impossible value, UNIMPLEMENTED for a family or feature we
// lack; both name the key of config.json and the value found.
absl::StatusOr<ModelConfig> ParseModelConfig(const nlohmann::ordered_json& config_json);

}  // namespace secateur
