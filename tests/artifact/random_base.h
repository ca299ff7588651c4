// A base model's files with random bytes as weights: enough for what copies bytes and never
// computes.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "server/format/safetensors_writer.h"
#include "server/mask/cut.h"
#include "server/mask/group_mask.h"
#include "server/model/tensor_table.h"

namespace secateur {

inline ModelConfig SmallConfig() {
  ModelConfig config;
  config.model_type = "llama";
  config.vocabulary_size = 50;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  return config;
}

inline std::string RandomBytes(int64_t count, std::mt19937& random) {
  std::string bytes(static_cast<size_t>(count), '\0');
  std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<char>(random()); });
  return bytes;
}

// The bytes of a model.safetensors with every tensor of `config`, in its table's order.
inline std::string RandomWeights(const ModelConfig& config, DType dtype) {
  std::mt19937 random(7);
  std::vector<TensorSpec> specs;
  for (const TensorInfo& info : TensorTable(config)) {
    specs.push_back({info.name, dtype, info.shape});
  }
  std::string file;
  SafetensorsWriter writer([&file](std::string_view bytes) {
    file += bytes;
    return absl::OkStatus();
  });
  absl::Status status = writer.Begin(specs, {});
  for (const TensorSpec& spec : specs)
    status.Update(writer.Write(RandomBytes(ByteSize(spec), random)));
  status.Update(writer.Finish());
  return status.ok() ? file : std::string(status.message());
}

inline Mask RandomMask(const ModelConfig& config, int64_t width, unsigned seed = 3) {
  std::mt19937 random(seed);
  Mask mask;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    std::vector<int32_t> channels(static_cast<size_t>(config.intermediate_size));
    std::iota(channels.begin(), channels.end(), 0);
    std::shuffle(channels.begin(), channels.end(), random);
    channels.resize(static_cast<size_t>(width));
    std::sort(channels.begin(), channels.end());
    mask.kept.push_back(channels);
  }
  return mask;
}

// A part of each matrix of attention, another in every layer.
inline void RemoveAttention(const ModelConfig& config, Mask& mask, unsigned seed = 4) {
  std::mt19937 random(seed);
  const auto some = [&random](int64_t rows) {
    std::vector<int32_t> kept = {0};
    for (int32_t row = 1; row < rows; ++row) {
      if (random() % 4 != 0) kept.push_back(row);
    }
    return kept;
  };
  const int64_t query = config.num_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    mask.attention.push_back({some(query), some(kv), some(kv), some(query)});
  }
}

// `kept` KV head groups of each layer, others in every layer.
inline void RemoveGroups(const ModelConfig& config, int64_t kept, Mask& mask) {
  std::vector<std::vector<int32_t>> groups;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    std::vector<int32_t>& stay = groups.emplace_back();
    for (int64_t i = 0; i < kept; ++i) {
      stay.push_back(static_cast<int32_t>((layer + i) % config.num_kv_heads));
    }
    std::sort(stay.begin(), stay.end());
  }
  mask.attention = KeptAttentionOf(HeadsOf(config), groups);
}

}  // namespace secateur
