#include "server/model/tensor_table.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::ElementsAre;

ModelConfig Config(std::string_view name) {
  return ParseModelConfig(FindTinyModel(name).config).value();
}

std::vector<std::string> Names(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const TensorInfo& info : TensorTable(config)) names.push_back(info.name);
  return names;
}

TEST(TensorTable, ListsALlamaInTheOrderOfTheForwardPass) {
  ModelConfig config = Config("llama_mha");
  config.num_layers = 1;
  EXPECT_THAT(
      Names(config),
      ElementsAre(
          "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
          "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
          "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
          "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight",
          "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight",
          "model.norm.weight", "lm_head.weight"));
}

TEST(TensorTable, ListsTheNormsOfAGemma3ByWhatTheyDo) {
  ModelConfig config = Config("gemma3");
  config.num_layers = 1;
  std::map<std::string, TensorRole> roles;
  for (const TensorInfo& info : TensorTable(config)) roles[info.name] = info.role;
  const std::string layer = "model.layers.0.";
  EXPECT_EQ(roles[layer + "post_attention_layernorm.weight"], TensorRole::kPostAttentionNorm);
  EXPECT_EQ(roles[layer + "pre_feedforward_layernorm.weight"], TensorRole::kPreFfnNorm);
  EXPECT_EQ(roles[layer + "post_feedforward_layernorm.weight"], TensorRole::kPostFfnNorm);
  EXPECT_EQ(roles[layer + "self_attn.q_norm.weight"], TensorRole::kQueryNorm);
  EXPECT_EQ(roles[layer + "self_attn.k_norm.weight"], TensorRole::kKeyNorm);
  EXPECT_FALSE(roles.contains("lm_head.weight"));
}

TEST(TensorTable, MarksTheAxesOfUnitsOfExactlyTheTensorsThatHaveOne) {
  ModelConfig config = Config("llama_biases");
  const std::map<TensorRole, std::vector<Axis>> marked = {
      {TensorRole::kGate, {Axis::kNeuron, Axis::kOther}},
      {TensorRole::kUp, {Axis::kNeuron, Axis::kOther}},
      {TensorRole::kDown, {Axis::kOther, Axis::kNeuron}},
      {TensorRole::kGateBias, {Axis::kNeuron}},
      {TensorRole::kUpBias, {Axis::kNeuron}},
      {TensorRole::kQuery, {Axis::kQueryChannel, Axis::kOther}},
      {TensorRole::kQueryBias, {Axis::kQueryChannel}},
      {TensorRole::kOutput, {Axis::kOther, Axis::kQueryChannel}},
      {TensorRole::kKey, {Axis::kKvChannel, Axis::kOther}},
      {TensorRole::kKeyBias, {Axis::kKvChannel}},
      {TensorRole::kValue, {Axis::kKvChannel, Axis::kOther}},
      {TensorRole::kValueBias, {Axis::kKvChannel}},
      {TensorRole::kEmbedding, {Axis::kVocabulary, Axis::kOther}},
      {TensorRole::kHead, {Axis::kVocabulary, Axis::kOther}}};
  for (const TensorInfo& info : TensorTable(config)) {
    const auto expected = marked.find(info.role);
    const std::vector<Axis> plain(info.shape.size(), Axis::kOther);
    EXPECT_EQ(info.axes, expected == marked.end() ? plain : expected->second) << info.name;
    for (size_t i = 0; i < info.axes.size(); ++i) {
      if (info.axes[i] == Axis::kNeuron) {
        EXPECT_EQ(info.shape[i], config.intermediate_size);
      }
      if (info.axes[i] == Axis::kQueryChannel) {
        EXPECT_EQ(info.shape[i], config.num_heads * config.head_dim);
      }
      if (info.axes[i] == Axis::kKvChannel) {
        EXPECT_EQ(info.shape[i], config.num_kv_heads * config.head_dim);
      }
      if (info.axes[i] == Axis::kVocabulary) {
        EXPECT_EQ(info.shape[i], config.vocabulary_size);
      }
    }
  }
}

TEST(TensorTable, ShapesHeadsByTheirExplicitSize) {
  const ModelConfig config = Config("llama_head_dim");  // 4 heads of 24, hidden 64
  for (const TensorInfo& info : TensorTable(config)) {
    if (info.role == TensorRole::kQuery) {
      EXPECT_THAT(info.shape, ElementsAre(96, 64));
    }
    if (info.role == TensorRole::kKey) {
      EXPECT_THAT(info.shape, ElementsAre(48, 64));
    }
    if (info.role == TensorRole::kOutput) {
      EXPECT_THAT(info.shape, ElementsAre(64, 96));
    }
  }
}

TEST(TensorTable, NamesEachTensorOnce) {
  for (const TinyModel& model : TinyModels()) {
    const std::vector<std::string> names = Names(ParseModelConfig(model.config).value());
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size()) << model.name;
  }
}

TEST(CountParameters, AgreesWithThePublishedModels) {
  ModelConfig smollm;  // SmolLM2-135M
  smollm.model_type = "llama";
  smollm.vocabulary_size = 49152;
  smollm.hidden_size = 576;
  smollm.intermediate_size = 1536;
  smollm.num_layers = 30;
  smollm.num_heads = 9;
  smollm.num_kv_heads = 3;
  smollm.head_dim = 64;
  smollm.tied_embeddings = true;
  EXPECT_EQ(CountParameters(smollm), 134515008);
  EXPECT_EQ(CountBlockParameters(smollm), 134515008 - 49152 * 576 - 576);
  smollm.tied_embeddings = false;
  EXPECT_EQ(CountParameters(smollm), 134515008 + 49152 * 576);
}

TEST(CountParameters, OfTheLargestConfigDoesNotOverflow) {
  nlohmann::ordered_json json = FindTinyModel("llama_mha").config;
  json["vocab_size"] = 2147483647;
  json["hidden_size"] = 1 << 22;
  json["intermediate_size"] = 1 << 22;
  json["num_hidden_layers"] = 1 << 12;
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseModelConfig(json));
  EXPECT_GT(CountParameters(config), CountBlockParameters(config));
  EXPECT_GT(CountBlockParameters(config), 0);
}

}  // namespace
}  // namespace secateur
