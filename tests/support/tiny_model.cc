#include "tests/support/tiny_model.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/format/safetensors_writer.h"
#include "server/model/config.h"
#include "server/model/tensor_table.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

Json LlamaConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 272},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"hidden_act", "silu"},
          {"max_position_embeddings", 1024},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"rope_scaling", nullptr},
          {"tie_word_embeddings", false},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"bos_token_id", kTinyBos},
          {"eos_token_id", kTinyEos}};
}

Json Gemma3Config() {
  return {{"architectures", {"Gemma3ForCausalLM"}},
          {"model_type", "gemma3_text"},
          {"vocab_size", 272},
          {"hidden_size", 64},
          {"intermediate_size", 128},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 1},
          {"head_dim", 32},
          {"hidden_activation", "gelu_pytorch_tanh"},
          {"max_position_embeddings", 1024},
          {"rms_norm_eps", 1e-6},
          {"query_pre_attn_scalar", 24},
          {"sliding_window", 8},
          {"layer_types",
           {"sliding_attention", "full_attention", "sliding_attention", "full_attention"}},
          {"rope_theta", 1000000.0},
          {"rope_local_base_freq", 10000.0},
          {"rope_scaling", nullptr},
          {"tie_word_embeddings", true},
          {"attention_bias", false},
          {"attn_logit_softcapping", nullptr},
          {"final_logit_softcapping", nullptr},
          {"bos_token_id", kTinyBos},
          {"eos_token_id", kTinyEos}};
}

TinyModel Variant(std::string name, Json config, const Json& changes, DType dtype = DType::kF32) {
  for (const auto& [key, value] : changes.items()) config[key] = value;
  return {.name = std::move(name), .config = std::move(config), .dtype = dtype};
}

// As Transformers 5 writes it.
Json WithRopeParameters(Json config, const Json& rope_parameters) {
  for (const char* key : {"rope_theta", "rope_scaling", "rope_local_base_freq"}) config.erase(key);
  config["rope_parameters"] = rope_parameters;
  return config;
}

std::string_view ConfigName(DType dtype) {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kF16 ? "float16" : "bfloat16";
}

// SplitMix64: the same numbers on every platform, unlike the standard library's distributions.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // Uniform in [-1, 1).
  float Next() {
    state_ += 0x9E3779B97F4A7C15U;
    uint64_t x = state_;
    x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
    return static_cast<float>(static_cast<int64_t>(x ^ (x >> 31U)) >> 40U) / 8388608.0F;
  }

 private:
  uint64_t state_;
};

uint16_t ToBfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

// Rounds towards zero; what is too small for a normal number becomes zero.
uint16_t ToFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16U) & 0x8000U;
  const int32_t exponent = static_cast<int32_t>((bits >> 23U) & 0xFFU) - 127 + 15;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | (static_cast<uint32_t>(exponent) << 10U) |
                               ((bits >> 13U) & 0x3FFU));
}

void Append(float value, DType dtype, std::string& bytes) {
  if (dtype == DType::kF32) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return;
  }
  const uint16_t half = dtype == DType::kF16 ? ToFloat16(value) : ToBfloat16(value);
  bytes.append(reinterpret_cast<const char*>(&half), sizeof(half));
}

bool IsNorm(TensorRole role) {
  switch (role) {
    case TensorRole::kFinalNorm:
    case TensorRole::kInputNorm:
    case TensorRole::kPostAttentionNorm:
    case TensorRole::kPreFfnNorm:
    case TensorRole::kPostFfnNorm:
    case TensorRole::kQueryNorm:
    case TensorRole::kKeyNorm:
      return true;
    default:
      return false;
  }
}

// Matrices keep the scale of what they are fed, so that every layer matters to the logits. The
// embedding stands above that and down_proj below, as in trained models: what a single neuron
// writes is small beside the residual stream, or most neurons would be protected ones.
std::string RandomTensor(const TensorInfo& info, const ModelConfig& config, DType dtype,
                         Random& random) {
  int64_t count = 1;
  for (const int64_t size : info.shape) count *= size;
  float center = 0.0F;
  float spread = 0.2F;  // biases
  if (IsNorm(info.role)) {
    center = 1.0F - static_cast<float>(config.norm_offset);
  } else if (info.shape.size() == 2) {
    const float scale = info.role == TensorRole::kEmbedding ? 8.0F
                        : info.role == TensorRole::kDown    ? 0.6F
                                                            : 1.7F;
    spread = scale / std::sqrt(static_cast<float>(info.shape[1]));
  }
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) Append(center + spread * random.Next(), dtype, bytes);
  return bytes;
}

absl::Status WriteFile(const std::string& folder, std::string_view name, std::string_view bytes) {
  const std::string path = (std::filesystem::path(folder) / name).string();
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  return out ? absl::OkStatus() : absl::InternalError(StrCat("cannot write ", path));
}

struct Shard {
  std::string name;
  std::vector<TensorSpec> specs;
  std::vector<std::string> tensors;
};

absl::Status WriteShard(const Shard& shard, const std::string& folder) {
  std::string file;
  SafetensorsWriter writer([&file](std::string_view bytes) {
    file.append(bytes);
    return absl::OkStatus();
  });
  RETURN_IF_ERROR(writer.Begin(shard.specs, {{"format", "pt"}}));
  for (const std::string& tensor : shard.tensors) RETURN_IF_ERROR(writer.Write(tensor));
  RETURN_IF_ERROR(writer.Finish());
  return WriteFile(folder, shard.name, file);
}

std::string ShardName(int index, int count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors", index + 1, count);
  return name;
}

absl::Status WriteWeights(const TinyModel& model, const std::string& folder) {
  ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(model.config));
  const std::vector<TensorInfo> table = TensorTable(config);
  std::vector<Shard> shards(static_cast<size_t>(model.shards));
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  Random random(model.seed);
  int64_t total = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const size_t number = i * shards.size() / table.size();
    Shard& shard = shards[number];
    shard.name = ShardName(static_cast<int>(number), model.shards);
    shard.specs.push_back({.name = table[i].name, .dtype = model.dtype, .shape = table[i].shape});
    shard.tensors.push_back(RandomTensor(table[i], config, model.dtype, random));
    index["weight_map"][table[i].name] = shard.name;
    total += static_cast<int64_t>(shard.tensors.back().size());
  }
  index["metadata"]["total_size"] = total;
  for (const Shard& shard : shards) RETURN_IF_ERROR(WriteShard(shard, folder));
  if (model.shards == 1) return absl::OkStatus();
  return WriteFile(folder, "model.safetensors.index.json", index.dump(2));
}

}  // namespace

std::vector<TinyModel> TinyModels() {
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 32}};
  const Json linear = {{"type", "linear"}, {"factor", 4.0}};
  const Json llama5 = {{"rope_type", "llama3"},   {"rope_theta", 500000.0},
                       {"factor", 4.0},           {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  const Json gemma5 = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}};
  return {
      Variant("llama_mha", LlamaConfig(), {{"num_key_value_heads", 4}}),
      Variant("llama_gqa", LlamaConfig(), {{"tie_word_embeddings", true}}, DType::kBF16),
      Variant("llama_head_dim", LlamaConfig(), {{"head_dim", 24}}, DType::kF16),
      Variant("llama_biases", LlamaConfig(), {{"attention_bias", true}, {"mlp_bias", true}}),
      Variant("llama_linear_rope", LlamaConfig(), {{"rope_scaling", linear}}),
      Variant("llama_llama3_rope", LlamaConfig(), {{"rope_scaling", llama3}}),
      Variant("llama_rope_parameters", WithRopeParameters(LlamaConfig(), llama5),
              {{"num_key_value_heads", 1}}),
      Variant("gemma3", Gemma3Config(), Json::object(), DType::kBF16),
      Variant("gemma3_rope_parameters", WithRopeParameters(Gemma3Config(), gemma5),
              {{"num_key_value_heads", 2}, {"attention_bias", true}}),
      Variant("gemma3_pattern", Gemma3Config(),
              {{"layer_types", nullptr},
               {"sliding_window_pattern", 3},
               // Transformers 5 does not see the older key "type" here.
               {"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}},
               {"tie_word_embeddings", false}}),
  };
}

TinyModel FindTinyModel(std::string_view name) {
  for (TinyModel& model : TinyModels()) {
    if (model.name == name) return std::move(model);
  }
  std::abort();
}

absl::Status WriteTinyModel(const TinyModel& model, const std::string& folder) {
  Json config = model.config;
  config[config.contains("rope_parameters") ? "dtype" : "torch_dtype"] = ConfigName(model.dtype);
  const Json generation = {{"bos_token_id", kTinyBos}, {"eos_token_id", kTinyEos}};
  const Json tokenizer = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                          {"bos_token", "<|bos|>"},
                          {"eos_token", "<|eos|>"},
                          {"clean_up_tokenization_spaces", false},
                          {"model_max_length", 1024}};
  RETURN_IF_ERROR(WriteFile(folder, "config.json", config.dump(2)));
  RETURN_IF_ERROR(WriteFile(folder, "generation_config.json", generation.dump(2)));
  RETURN_IF_ERROR(WriteFile(folder, "tokenizer_config.json", tokenizer.dump(2)));
  RETURN_IF_ERROR(WriteFile(folder, "tokenizer.json",
                            TinyTokenizerJson(model.config["vocab_size"].get<int64_t>())));
  return WriteWeights(model, folder);
}

}  // namespace secateur
