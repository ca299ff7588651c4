#include "server/model/tensor_table.h"

#include <array>
#include <span>
#include <string_view>
#include <utility>

#include "server/base/strings.h"
#include "server/model/families.h"

namespace secateur {
namespace {

// A dimension by what it counts; its size and its units come from the config.
enum class Extent { kNone, kHidden, kNeurons, kQueryRows, kKvRows, kHeadDim, kVocabulary };

struct Row {
  TensorRole role;
  std::string_view name;  // empty: the family's own
  std::array<Extent, 2> extents;
  bool ModelConfig::* exists = nullptr;  // null: always
};

constexpr Extent kNone = Extent::kNone;
constexpr Extent kHidden = Extent::kHidden;

// In the order of the forward pass.
constexpr Row kLayerRows[] = {
    {TensorRole::kInputNorm, "input_layernorm.weight", {kHidden, kNone}},
    {TensorRole::kQuery, "self_attn.q_proj.weight", {Extent::kQueryRows, kHidden}},
    {TensorRole::kQueryBias,
     "self_attn.q_proj.bias",
     {Extent::kQueryRows, kNone},
     &ModelConfig::attention_bias},
    {TensorRole::kKey, "self_attn.k_proj.weight", {Extent::kKvRows, kHidden}},
    {TensorRole::kKeyBias,
     "self_attn.k_proj.bias",
     {Extent::kKvRows, kNone},
     &ModelConfig::attention_bias},
    {TensorRole::kValue, "self_attn.v_proj.weight", {Extent::kKvRows, kHidden}},
    {TensorRole::kValueBias,
     "self_attn.v_proj.bias",
     {Extent::kKvRows, kNone},
     &ModelConfig::attention_bias},
    {TensorRole::kQueryNorm,
     "self_attn.q_norm.weight",
     {Extent::kHeadDim, kNone},
     &ModelConfig::qk_norm},
    {TensorRole::kKeyNorm,
     "self_attn.k_norm.weight",
     {Extent::kHeadDim, kNone},
     &ModelConfig::qk_norm},
    {TensorRole::kOutput, "self_attn.o_proj.weight", {kHidden, Extent::kQueryRows}},
    {TensorRole::kOutputBias,
     "self_attn.o_proj.bias",
     {kHidden, kNone},
     &ModelConfig::attention_bias},
    {TensorRole::kPostAttentionNorm,
     "post_attention_layernorm.weight",
     {kHidden, kNone},
     &ModelConfig::post_norms},
    {TensorRole::kPreFfnNorm, "", {kHidden, kNone}},
    {TensorRole::kGate, "mlp.gate_proj.weight", {Extent::kNeurons, kHidden}},
    {TensorRole::kGateBias,
     "mlp.gate_proj.bias",
     {Extent::kNeurons, kNone},
     &ModelConfig::mlp_bias},
    {TensorRole::kUp, "mlp.up_proj.weight", {Extent::kNeurons, kHidden}},
    {TensorRole::kUpBias, "mlp.up_proj.bias", {Extent::kNeurons, kNone}, &ModelConfig::mlp_bias},
    {TensorRole::kDown, "mlp.down_proj.weight", {kHidden, Extent::kNeurons}},
    {TensorRole::kDownBias, "mlp.down_proj.bias", {kHidden, kNone}, &ModelConfig::mlp_bias},
    {TensorRole::kPostFfnNorm,
     "post_feedforward_layernorm.weight",
     {kHidden, kNone},
     &ModelConfig::post_norms},
};

constexpr Row kEmbeddingRow = {
    TensorRole::kEmbedding, "model.embed_tokens.weight", {Extent::kVocabulary, kHidden}};
constexpr Row kFinalNormRow = {TensorRole::kFinalNorm, "model.norm.weight", {kHidden, kNone}};
constexpr Row kHeadRow = {TensorRole::kHead, "lm_head.weight", {Extent::kVocabulary, kHidden}};

std::pair<int64_t, Axis> Measure(Extent extent, const ModelConfig& config) {
  switch (extent) {
    case Extent::kNone:
      return {1, Axis::kOther};
    case Extent::kHidden:
      return {config.hidden_size, Axis::kOther};
    case Extent::kNeurons:
      return {config.intermediate_size, Axis::kNeuron};
    case Extent::kQueryRows:
      return {config.num_heads * config.head_dim, Axis::kQueryChannel};
    case Extent::kKvRows:
      return {config.num_kv_heads * config.head_dim, Axis::kKvChannel};
    case Extent::kHeadDim:
      return {config.head_dim, Axis::kOther};
    case Extent::kVocabulary:
      return {config.vocabulary_size, Axis::kVocabulary};
  }
  return {1, Axis::kOther};
}

TensorInfo MakeInfo(const Row& row, std::string name, int64_t layer, const ModelConfig& config) {
  TensorInfo info;
  info.name = std::move(name);
  info.role = row.role;
  info.layer = layer;
  for (const Extent extent : row.extents) {
    if (extent == kNone) continue;
    const auto [size, axis] = Measure(extent, config);
    info.shape.push_back(size);
    info.axes.push_back(axis);
  }
  return info;
}

int64_t CountElements(const TensorInfo& info) {
  int64_t count = 1;
  for (const int64_t size : info.shape) count *= size;
  return count;
}

}  // namespace

bool IsFfnBias(TensorRole role) {
  return role == TensorRole::kGateBias || role == TensorRole::kUpBias ||
         role == TensorRole::kDownBias;
}

std::vector<TensorInfo> TensorTable(const ModelConfig& config) {
  const Family* family = FindFamily(config.model_type);
  std::vector<TensorInfo> table;
  table.push_back(MakeInfo(kEmbeddingRow, std::string(kEmbeddingRow.name), -1, config));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const Row& row : kLayerRows) {
      if (row.exists != nullptr && !(config.*row.exists)) continue;
      const std::string_view own = family != nullptr ? family->pre_ffn_norm : "";
      const std::string_view name = row.name.empty() ? own : row.name;
      table.push_back(MakeInfo(row, StrCat("model.layers.", layer, ".", name), layer, config));
    }
  }
  table.push_back(MakeInfo(kFinalNormRow, std::string(kFinalNormRow.name), -1, config));
  if (!config.tied_embeddings) {
    table.push_back(MakeInfo(kHeadRow, std::string(kHeadRow.name), -1, config));
  }
  return table;
}

int64_t CountParameters(const ModelConfig& config) {
  int64_t count = 0;
  for (const TensorInfo& info : TensorTable(config)) count += CountElements(info);
  return count;
}

int64_t CountBlockParameters(const ModelConfig& config) {
  int64_t count = 0;
  for (const TensorInfo& info : TensorTable(config)) {
    if (info.layer >= 0) count += CountElements(info);
  }
  return count;
}

}  // namespace secateur
