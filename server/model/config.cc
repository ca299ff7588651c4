#include "server/model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/model/families.h"
#include "server/model/json_fields.h"
#include "server/model/rope_config.h"

namespace secateur {
namespace {

// Bounds that no model comes near and that keep every product of sizes within 63 bits.
constexpr int64_t kMaxWidth = int64_t{1} << 22;
constexpr int64_t kMaxHeads = int64_t{1} << 14;
constexpr int64_t kMaxLayers = int64_t{1} << 12;
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

// Keys that change the forward pass unless they are absent, null or `neutral`.
struct RefusedKey {
  std::string_view key;
  nlohmann::ordered_json neutral;
  std::string_view explanation;
};

const std::vector<RefusedKey>& RefusedKeys() {
  constexpr std::string_view kNoMixture = "mixtures of experts are not supported";
  constexpr std::string_view kNoCaps = "capped logits are not supported";
  static const auto& keys = *new std::vector<RefusedKey>{
      {"quantization_config", nullptr, "convert the weights to bfloat16, float16 or float32 first"},
      {"compression_config", nullptr, "convert the weights to bfloat16, float16 or float32 first"},
      {"pretraining_tp", 1, "only 1, unsplit linear layers, is supported"},
      {"attn_logit_softcapping", nullptr, kNoCaps},
      {"final_logit_softcapping", nullptr, kNoCaps},
      {"use_bidirectional_attention", false, "only causal attention is supported"},
      {"partial_rotary_factor", 1.0, "only 1.0, whole heads, is supported"},
      {"num_local_experts", 0, kNoMixture},
      {"num_experts", 0, kNoMixture},
      {"n_routed_experts", 0, kNoMixture},
      {"num_experts_per_tok", 0, kNoMixture},
      {"moe_intermediate_size", 0, kNoMixture},
  };
  return keys;
}

absl::Status RefuseUnknownFeatures(const Fields& fields) {
  for (const RefusedKey& refused : RefusedKeys()) {
    const auto& value = fields.Get(refused.key);
    if (!value.is_null() && value != refused.neutral) {
      return fields.Unimplemented(refused.key, refused.explanation);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<const Family*> ParseFamily(const Fields& fields) {
  ASSIGN_OR_RETURN(const std::string model_type, fields.StringOr("model_type", ""));
  const Family* family = FindFamily(model_type);
  if (family != nullptr) return family;
  const std::string supported = absl::StrJoin(
      Families(), ", ", [](std::string* out, const Family& row) { out->append(row.model_type); });
  const std::string explanation = StrCat("supported are: ", supported);
  if (model_type.empty()) return fields.Invalid("model_type", explanation);
  return fields.Unimplemented("model_type", explanation);
}

absl::Status ParseHeads(const Fields& fields, const Family& family, ModelConfig& config) {
  ASSIGN_OR_RETURN(config.num_heads, fields.Integer("num_attention_heads", 1, kMaxHeads));
  const int64_t kv_heads = family.num_kv_heads > 0 ? family.num_kv_heads : config.num_heads;
  ASSIGN_OR_RETURN(config.num_kv_heads,
                   fields.IntegerOr("num_key_value_heads", kv_heads, 1, kMaxHeads));
  if (config.num_heads % config.num_kv_heads != 0) {
    return fields.Invalid("num_key_value_heads",
                          StrCat("it must divide num_attention_heads, ", config.num_heads,
                                 config.num_kv_heads == kv_heads ? " (the default)" : ""));
  }
  ASSIGN_OR_RETURN(config.head_dim, fields.IntegerOr("head_dim", family.head_dim, 2, kMaxHeads));
  if (config.head_dim == 0) {
    if (config.hidden_size % config.num_heads != 0) {
      return fields.Invalid(
          "num_attention_heads",
          StrCat("without head_dim it must divide hidden_size, ", config.hidden_size));
    }
    config.head_dim = config.hidden_size / config.num_heads;
  }
  if (config.head_dim % 2 != 0) {
    return fields.Invalid("head_dim", StrCat("heads of an even size are needed to rotate "
                                             "them; this model's have ",
                                             config.head_dim));
  }
  if (config.num_heads * config.head_dim > kMaxWidth) {
    return fields.Invalid("head_dim", StrCat("all ", config.num_heads, " heads together may have ",
                                             kMaxWidth, " channels"));
  }
  config.attention_scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  if (family.query_pre_attn_scalar > 0.0) {
    ASSIGN_OR_RETURN(const double scalar,
                     fields.PositiveOr("query_pre_attn_scalar", family.query_pre_attn_scalar));
    config.attention_scale = 1.0 / std::sqrt(scalar);
  }
  return absl::OkStatus();
}

absl::Status ParseSizes(const Fields& fields, const Family& family, ModelConfig& config) {
  ASSIGN_OR_RETURN(config.vocabulary_size, fields.Integer("vocab_size", 1, kMaxInt32));
  ASSIGN_OR_RETURN(config.hidden_size, fields.Integer("hidden_size", 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.intermediate_size, fields.Integer("intermediate_size", 1, kMaxWidth));
  ASSIGN_OR_RETURN(config.num_layers, fields.Integer("num_hidden_layers", 1, kMaxLayers));
  ASSIGN_OR_RETURN(config.max_positions,
                   fields.IntegerOr("max_position_embeddings", family.max_positions, 1, kMaxInt32));
  return ParseHeads(fields, family, config);
}

absl::Status ParsePieces(const Fields& fields, const Family& family, ModelConfig& config) {
  ASSIGN_OR_RETURN(config.norm_eps, fields.PositiveOr("rms_norm_eps", family.norm_eps));
  config.norm_offset = family.norm_offset;
  config.qk_norm = family.qk_norm;
  config.post_norms = family.post_norms;
  if (family.scaled_embedding) {
    config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  }
  ASSIGN_OR_RETURN(config.tied_embeddings,
                   fields.BooleanOr("tie_word_embeddings", family.tied_embeddings));
  ASSIGN_OR_RETURN(config.attention_bias, fields.BooleanOr("attention_bias", false));
  if (family.mlp_bias) {
    ASSIGN_OR_RETURN(config.mlp_bias, fields.BooleanOr("mlp_bias", false));
  }
  ASSIGN_OR_RETURN(const std::string activation,
                   fields.StringOr(family.activation_key, family.activation));
  if (activation == "silu") {
    config.activation = Activation::kSilu;
  } else if (activation == "gelu_pytorch_tanh") {
    config.activation = Activation::kGeluTanh;
  } else {
    return fields.Unimplemented(family.activation_key,
                                "supported are \"silu\" and \"gelu_pytorch_tanh\"");
  }
  return absl::OkStatus();
}

absl::Status ParseLayerTypes(const Fields& fields, ModelConfig& config) {
  const auto& types = fields.Get("layer_types");
  if (!types.is_array() || types.size() != static_cast<size_t>(config.num_layers)) {
    return fields.Invalid("layer_types", StrCat("it must list the kind of each of the ",
                                                config.num_layers, " layers"));
  }
  for (size_t layer = 0; layer < types.size(); ++layer) {
    const bool sliding = types[layer] == "sliding_attention";
    if (!sliding && types[layer] != "full_attention") {
      return fields.Unimplemented("layer_types", StrCat("layer ", layer,
                                                        " is neither \"full_attention\" nor "
                                                        "\"sliding_attention\""));
    }
    config.sliding[layer] = sliding;
  }
  return absl::OkStatus();
}

absl::Status ParseWindows(const Fields& fields, const Family& family, ModelConfig& config) {
  config.sliding.assign(static_cast<size_t>(config.num_layers), false);
  if (family.sliding_window == 0) return absl::OkStatus();
  if (!fields.Get("layer_types").is_null()) {
    RETURN_IF_ERROR(ParseLayerTypes(fields, config));
  } else {
    ASSIGN_OR_RETURN(
        const int64_t pattern,
        fields.IntegerOr("sliding_window_pattern", family.sliding_window_pattern, 1, kMaxInt32));
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      config.sliding[static_cast<size_t>(layer)] = (layer + 1) % pattern != 0;
    }
  }
  const bool windows =
      std::find(config.sliding.begin(), config.sliding.end(), true) != config.sliding.end();
  if (!windows) return absl::OkStatus();
  if (!fields.Has("sliding_window")) {
    config.sliding_window = family.sliding_window;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(config.sliding_window, fields.Integer("sliding_window", 1, kMaxInt32));
  return absl::OkStatus();
}

absl::Status ParseDType(const Fields& fields, ModelConfig& config) {
  const std::string_view key = fields.Get("dtype").is_null() ? "torch_dtype" : "dtype";
  ASSIGN_OR_RETURN(config.dtype, fields.StringOr(key, ""));
  for (const std::string_view known : {"", "bfloat16", "float16", "float32"}) {
    if (config.dtype == known) return absl::OkStatus();
  }
  return fields.Unimplemented(key, "supported are bfloat16, float16 and float32");
}

// An end-of-sequence id may be a list of them: the first one counts.
absl::StatusOr<int64_t> ParseFirstToken(const Fields& fields, const Family& family,
                                        const ModelConfig& config) {
  const int64_t last = config.vocabulary_size - 1;
  if (!fields.Has("bos_token_id")) return std::min(family.bos_token_id, last);
  if (!fields.Get("bos_token_id").is_null()) return fields.Integer("bos_token_id", 0, last);
  if (!fields.Has("eos_token_id")) return std::min(family.eos_token_id, last);
  const auto& eos = fields.Get("eos_token_id");
  if (eos.is_null()) return 0;
  if (!eos.is_array()) return fields.Integer("eos_token_id", 0, last);
  if (eos.empty()) return 0;
  const nlohmann::ordered_json first{{"eos_token_id", eos.front()}};
  return Fields(first, "").Integer("eos_token_id", 0, last);
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const nlohmann::ordered_json& config_json) {
  if (!config_json.is_object()) {
    return absl::InvalidArgumentError("config.json must hold a JSON object");
  }
  const Fields fields(config_json, "");
  ASSIGN_OR_RETURN(const Family* family, ParseFamily(fields));
  RETURN_IF_ERROR(RefuseUnknownFeatures(fields));
  ModelConfig config;
  config.model_type = family->model_type;
  RETURN_IF_ERROR(ParseSizes(fields, *family, config));
  RETURN_IF_ERROR(ParsePieces(fields, *family, config));
  RETURN_IF_ERROR(ParseRope(fields, *family, config));
  RETURN_IF_ERROR(ParseWindows(fields, *family, config));
  RETURN_IF_ERROR(ParseDType(fields, config));
  ASSIGN_OR_RETURN(config.first_token_id, ParseFirstToken(fields, *family, config));
  return config;
}

}  // namespace secateur
