// Shapes of real models and of a tiny one, and every width they can be cut to.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "server/mask/budget.h"
#include "server/model/tensor_table.h"

namespace secateur {

inline ModelConfig Llama(int64_t vocabulary, int64_t hidden, int64_t intermediate, int64_t layers,
                         int64_t heads, int64_t kv_heads, bool tied) {
  ModelConfig config;
  config.model_type = "llama";
  config.vocabulary_size = vocabulary;
  config.hidden_size = hidden;
  config.intermediate_size = intermediate;
  config.num_layers = layers;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.tied_embeddings = tied;
  config.sliding.assign(static_cast<size_t>(layers), false);
  return config;
}

inline ModelConfig Gemma3(int64_t hidden, int64_t intermediate, int64_t layers, int64_t heads) {
  ModelConfig config = Llama(262'144, hidden, intermediate, layers, heads, 1, true);
  config.model_type = "gemma3_text";
  config.head_dim = 256;
  config.qk_norm = config.post_norms = true;
  return config;
}

inline const ModelConfig kSmolLm2 = Llama(49'152, 576, 1536, 30, 9, 3, true);
inline const ModelConfig kGemma270M = Gemma3(640, 2048, 18, 4);
inline const ModelConfig kGemma1B = Gemma3(1152, 6912, 26, 4);
inline const ModelConfig kLlama8B = Llama(128'256, 4096, 14'336, 32, 32, 8, false);
inline const ModelConfig kLlama2 = Llama(32'000, 4096, 11'008, 32, 32, 32, false);
inline const ModelConfig kLlama1B = Llama(128'256, 2048, 8192, 16, 32, 8, true);

// Small enough to try every width; biases, and a width that is no multiple of anything.
inline ModelConfig Tiny() {
  ModelConfig config = Llama(97, 24, 151, 3, 4, 2, false);
  config.mlp_bias = config.attention_bias = true;
  return config;
}

inline int64_t CountAt(ModelConfig config, int64_t width) {
  config.intermediate_size = width;
  return CountParameters(config);
}

// Every width that may be asked for.
inline std::vector<int64_t> AllowedWidths(const ModelConfig& config, int64_t alignment) {
  std::vector<int64_t> widths;
  for (int64_t w = 1; w <= config.intermediate_size; ++w) {
    if (w % alignment == 0 || w == config.intermediate_size) widths.push_back(w);
  }
  return widths;
}

inline int64_t SmallestExpert(const ModelConfig& config, int64_t alignment) {
  for (const int64_t width : AllowedWidths(config, alignment)) {
    const auto removed = static_cast<double>(config.intermediate_size - width);
    if (removed / static_cast<double>(config.intermediate_size) <= kMostNeuronsRemoved)
      return width;
  }
  return config.intermediate_size;
}

struct Case {
  const char* name;
  ModelConfig config;
  std::vector<int64_t> alignments;
};

inline std::vector<Case> Cases() {
  return {{"tiny", Tiny(), {1, 2, 32, 64, 150, 151, 152, 256, std::numeric_limits<int64_t>::max()}},
          {"SmolLM2", kSmolLm2, {64, 256}},
          {"Gemma 3 270M", kGemma270M, {32, 256}}};
}

}  // namespace secateur
