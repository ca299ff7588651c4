#include "server/model/config.h"

#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;

Json Llama() { return FindTinyModel("llama_gqa").config; }
Json Gemma() { return FindTinyModel("gemma3").config; }

Json With(Json config, const std::string& key, const Json& value) {
  config[key] = value;
  return config;
}

Json Without(Json config, const std::string& key) {
  config.erase(key);
  return config;
}

TEST(ParseModelConfig, ReadsALlama) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseModelConfig(Llama()));
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.vocabulary_size, 272);
  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.intermediate_size, 128);
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.max_positions, 1024);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.norm_offset, 0.0);
  EXPECT_EQ(config.activation, Activation::kSilu);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_FALSE(config.qk_norm || config.post_norms || config.attention_bias || config.mlp_bias);
  EXPECT_EQ(config.embedding_scale, 1.0);
  EXPECT_EQ(config.attention_scale, 0.25);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kNone);
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_THAT(config.sliding, ElementsAre(false, false, false));
  EXPECT_EQ(config.first_token_id, 270);
}

TEST(ParseModelConfig, ReadsAGemma3) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseModelConfig(Gemma()));
  EXPECT_EQ(config.model_type, "gemma3_text");
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.norm_offset, 1.0);
  EXPECT_EQ(config.activation, Activation::kGeluTanh);
  EXPECT_TRUE(config.tied_embeddings && config.qk_norm && config.post_norms);
  EXPECT_EQ(config.embedding_scale, 8.0);
  EXPECT_DOUBLE_EQ(config.attention_scale, 1.0 / std::sqrt(24.0));
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.local_rope.theta, 1e4);
  EXPECT_EQ(config.sliding_window, 8);
  EXPECT_THAT(config.sliding, ElementsAre(true, false, true, false));
}

TEST(ParseModelConfig, GivesAbsentKeysTheValuesOfTransformers) {
  const Json llama = {{"model_type", "llama"},  {"vocab_size", 100},
                      {"hidden_size", 32},      {"intermediate_size", 48},
                      {"num_hidden_layers", 2}, {"num_attention_heads", 4}};
  ASSERT_OK_AND_ASSIGN(const ModelConfig plain, ParseModelConfig(llama));
  EXPECT_EQ(plain.num_kv_heads, 4);
  EXPECT_EQ(plain.head_dim, 8);
  EXPECT_EQ(plain.max_positions, 2048);
  EXPECT_EQ(plain.norm_eps, 1e-6);
  EXPECT_FALSE(plain.tied_embeddings);
  EXPECT_EQ(plain.first_token_id, 1);
  EXPECT_EQ(plain.dtype, "");

  ASSERT_OK_AND_ASSIGN(const ModelConfig gemma,
                       ParseModelConfig(With(llama, "model_type", "gemma3_text")));
  EXPECT_EQ(gemma.num_kv_heads, 4);
  EXPECT_EQ(gemma.head_dim, 256);
  EXPECT_EQ(gemma.max_positions, 131072);
  EXPECT_TRUE(gemma.tied_embeddings);
  EXPECT_EQ(gemma.attention_scale, 1.0 / 16.0);
  EXPECT_EQ(gemma.sliding_window, 4096);
  EXPECT_EQ(gemma.rope.theta, 1e6);
  EXPECT_EQ(gemma.local_rope.theta, 1e4);
  EXPECT_EQ(gemma.first_token_id, 2);
}

TEST(ParseModelConfig, ReadsBothSpellingsOfRotarySettings) {
  const Json settings = {{"rope_type", "llama3"},
                         {"factor", 8.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 256}};
  Json with_theta = settings;
  with_theta["rope_theta"] = 500000.0;
  const Json old_spelling = With(With(Llama(), "rope_scaling", settings), "rope_theta", 500000.0);
  const Json new_spelling =
      With(Without(Without(Llama(), "rope_theta"), "rope_scaling"), "rope_parameters", with_theta);
  for (const Json& json : {old_spelling, new_spelling}) {
    ASSERT_OK_AND_ASSIGN(const ModelConfig config, ParseModelConfig(json));
    EXPECT_EQ(config.rope.theta, 500000.0);
    EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLlama3);
    EXPECT_EQ(config.rope.factor, 8.0);
    EXPECT_EQ(config.rope.low_freq_factor, 1.0);
    EXPECT_EQ(config.rope.high_freq_factor, 4.0);
    EXPECT_EQ(config.rope.original_max_positions, 256);
  }
}

TEST(ParseModelConfig, ScalesOnlyFullAttentionOfAGemma3InTheOldSpelling) {
  const Json scaling = {{"type", "linear"}, {"factor", 8.0}};
  ASSERT_OK_AND_ASSIGN(const ModelConfig config,
                       ParseModelConfig(With(Gemma(), "rope_scaling", scaling)));
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLinear);
  EXPECT_EQ(config.rope.factor, 8.0);
  EXPECT_EQ(config.local_rope.scaling, RopeConfig::Scaling::kNone);
}

TEST(ParseModelConfig, ReadsRotarySettingsByLayerType) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config,
                       ParseModelConfig(FindTinyModel("gemma3_rope_parameters").config));
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLinear);
  EXPECT_EQ(config.local_rope.theta, 1e4);
}

TEST(ParseModelConfig, MakesEveryNthLayerSeeEverythingWithoutLayerTypes) {
  Json json = With(Without(Gemma(), "layer_types"), "num_hidden_layers", 7);
  ASSERT_OK_AND_ASSIGN(const ModelConfig sixth, ParseModelConfig(json));
  EXPECT_THAT(sixth.sliding, ElementsAre(true, true, true, true, true, false, true));
  json["sliding_window_pattern"] = 2;
  ASSERT_OK_AND_ASSIGN(const ModelConfig second, ParseModelConfig(json));
  EXPECT_THAT(second.sliding, ElementsAre(true, false, true, false, true, false, true));
}

TEST(ParseModelConfig, OpensDocumentsWithBosElseEosElseZero) {
  const struct {
    Json bos, eos;
    int64_t expected;
  } cases[] = {{7, 9, 7},
               {nullptr, 9, 9},
               {nullptr, Json::array({11, 12}), 11},
               {nullptr, Json::array(), 0},
               {nullptr, nullptr, 0}};
  for (const auto& c : cases) {
    ASSERT_OK_AND_ASSIGN(
        const ModelConfig config,
        ParseModelConfig(With(With(Llama(), "bos_token_id", c.bos), "eos_token_id", c.eos)));
    EXPECT_EQ(config.first_token_id, c.expected) << c.bos << " " << c.eos;
  }
}

TEST(ParseModelConfig, ReadsTheTypeByEitherName) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig older,
                       ParseModelConfig(With(Llama(), "torch_dtype", "float16")));
  EXPECT_EQ(older.dtype, "float16");
  ASSERT_OK_AND_ASSIGN(const ModelConfig newer,
                       ParseModelConfig(With(Llama(), "dtype", "bfloat16")));
  EXPECT_EQ(newer.dtype, "bfloat16");
}

TEST(ParseModelConfig, LetsKeysPassThatDoNotChangeTheForwardPass) {
  const Json harmless = Json::parse(R"({
      "use_cache": true, "attention_dropout": 0.1, "initializer_range": 0.02, "pretraining_tp": 1,
      "transformers_version": "4.2", "quantization_config": null, "num_local_experts": null,
      "partial_rotary_factor": 1.0, "anything": [1, 2]})");
  Json json = Llama();
  for (const auto& [key, value] : harmless.items()) json[key] = value;
  EXPECT_OK(ParseModelConfig(json));
}

}  // namespace
}  // namespace secateur
