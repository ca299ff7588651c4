// What config.json may not say: each refusal names the key and the value.
#include "server/model/config.h"

#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;

Json Llama() { return FindTinyModel("llama_gqa").config; }
Json Gemma() { return FindTinyModel("gemma3").config; }

Json With(Json config, const std::string& key, const Json& value) {
  config[key] = value;
  return config;
}

struct ErrorCase {
  const char* name;
  const char* family;
  const char* key;
  std::optional<Json> value;  // nothing: the key is taken out
  absl::StatusCode code;
  std::vector<std::string> mentions;  // besides the key
};

class ConfigErrors : public testing::TestWithParam<ErrorCase> {};

TEST_P(ConfigErrors, NameTheKeyAndTheValue) {
  const ErrorCase& c = GetParam();
  Json json = std::string_view(c.family) == "llama" ? Llama() : Gemma();
  if (c.value.has_value()) {
    json[c.key] = *c.value;
  } else {
    json.erase(c.key);
  }
  const absl::Status status = ParseModelConfig(json).status();
  EXPECT_THAT(status, StatusIs(c.code, HasSubstr("\"" + std::string(c.key))));
  for (const std::string& mention : c.mentions) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(mention));
  }
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kLacking = absl::StatusCode::kUnimplemented;

std::vector<ErrorCase> ErrorCases() {
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}};
  const Json half_linear = {{"type", "linear"}};
  const Json swapped = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 4.0},
                        {"high_freq_factor", 1.0}};
  const Json partial = {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}};
  return {
      {"NoModelType", "llama", "model_type", {}, kInvalid, {"missing", "llama, gemma3_text"}},
      {"OtherModelType", "llama", "model_type", "mamba", kLacking, {"mamba", "gemma3_text"}},
      {"ModelTypeNoString", "llama", "model_type", 3, kInvalid, {"3", "string"}},
      {"NoVocabulary", "llama", "vocab_size", {}, kInvalid, {"missing"}},
      {"NoHidden", "llama", "hidden_size", nullptr, kInvalid, {"null"}},
      {"HiddenFraction", "llama", "hidden_size", 64.0, kInvalid, {"64.0", "integer"}},
      {"HiddenText", "llama", "hidden_size", "64", kInvalid, {"\"64\""}},
      {"HiddenZero", "llama", "hidden_size", 0, kInvalid, {"is 0"}},
      {"HiddenNegative", "llama", "hidden_size", -64, kInvalid, {"-64"}},
      {"HiddenHuge", "llama", "hidden_size", 1LL << 40, kInvalid, {"1099511627776"}},
      {"HiddenPast64Bits",
       "llama",
       "hidden_size",
       18446744073709551615ULL,
       kInvalid,
       {"18446744073709551615"}},
      {"LayersHuge", "llama", "num_hidden_layers", 100000000, kInvalid, {"100000000"}},
      {"NeuronsZero", "llama", "intermediate_size", 0, kInvalid, {"is 0"}},
      {"HeadsDoNotDivide", "llama", "num_attention_heads", 6, kInvalid, {"6"}},
      {"KvHeadsDoNotDivide", "llama", "num_key_value_heads", 3, kInvalid, {"3", "divide", "4"}},
      {"HeadsTooManyForHidden", "llama", "num_attention_heads", 10, kInvalid, {"10"}},
      {"OddHead", "llama", "head_dim", 15, kInvalid, {"15", "even"}},
      {"HeadHuge", "llama", "head_dim", 1 << 20, kInvalid, {"1048576"}},
      {"ZeroEps", "llama", "rms_norm_eps", 0, kInvalid, {"is 0"}},
      {"TextTheta", "llama", "rope_theta", "1e4", kInvalid, {"1e4"}},
      {"TiedNumber", "llama", "tie_word_embeddings", 1, kInvalid, {"true or false"}},
      {"BiasText", "llama", "attention_bias", "no", kInvalid, {"true or false"}},
      {"BosOutside", "llama", "bos_token_id", 272, kInvalid, {"272", "271"}},
      {"BosNegative", "llama", "bos_token_id", -1, kInvalid, {"-1"}},
      {"RopeScalingList", "llama", "rope_scaling", Json::array({1}), kInvalid, {"object"}},
      {"RopeYarn", "llama", "rope_scaling", yarn, kLacking, {"yarn", "llama3"}},
      {"RopeLinearWithoutFactor",
       "llama",
       "rope_scaling",
       half_linear,
       kInvalid,
       {"rope_scaling.factor"}},
      {"RopeLlama3Swapped",
       "llama",
       "rope_scaling",
       swapped,
       kInvalid,
       {"rope_scaling.high_freq_factor"}},
      {"RopePartial",
       "llama",
       "rope_parameters",
       partial,
       kLacking,
       {"rope_parameters.partial_rotary_factor", "0.5"}},
      {"PartialRotary", "llama", "partial_rotary_factor", 0.5, kLacking, {"0.5"}},
      {"Quantized", "llama", "quantization_config", Json{{"bits", 4}}, kLacking, {"bits"}},
      {"SplitPretraining", "llama", "pretraining_tp", 2, kLacking, {"2"}},
      {"Experts", "llama", "num_local_experts", 8, kLacking, {"8", "experts"}},
      {"UnknownActivation", "llama", "hidden_act", "relu2", kLacking, {"relu2", "silu"}},
      {"UnknownType", "llama", "torch_dtype", "float8_e4m3fn", kLacking, {"float8", "bfloat16"}},
      {"FinalCap", "gemma", "final_logit_softcapping", 30.0, kLacking, {"30.0"}},
      {"AttentionCap", "gemma", "attn_logit_softcapping", 50.0, kLacking, {"50.0"}},
      {"Bidirectional", "gemma", "use_bidirectional_attention", true, kLacking, {"true"}},
      {"ZeroScalar", "gemma", "query_pre_attn_scalar", 0, kInvalid, {"is 0"}},
      {"NoWindow", "gemma", "sliding_window", nullptr, kInvalid, {"null"}},
      {"ZeroWindow", "gemma", "sliding_window", 0, kInvalid, {"is 0"}},
      {"ShortLayerTypes",
       "gemma",
       "layer_types",
       Json::array({"full_attention"}),
       kInvalid,
       {"4 layers"}},
      {"OtherLayerType",
       "gemma",
       "layer_types",
       Json::array({"full_attention", "chunked_attention", "full_attention", "full_attention"}),
       kLacking,
       {"layer 1", "chunked_attention"}},
      {"UnknownGemmaActivation", "gemma", "hidden_activation", "gelu", kLacking, {"\"gelu\""}},
      {"LocalBaseZero", "gemma", "rope_local_base_freq", 0, kInvalid, {"is 0"}},
      {"FlatRopeParameters",
       "gemma",
       "rope_parameters",
       Json{{"rope_theta", 1e6}},
       kInvalid,
       {"full_attention"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Table, ConfigErrors, testing::ValuesIn(ErrorCases()),
                         [](const auto& case_info) { return std::string(case_info.param.name); });

TEST(ParseModelConfig, RefusesWhatIsNoObject) {
  EXPECT_THAT(ParseModelConfig(Json::array({1})), StatusIs(kInvalid, HasSubstr("object")));
  EXPECT_THAT(ParseModelConfig(nullptr), StatusIs(kInvalid, HasSubstr("object")));
}

TEST(ParseModelConfig, RefusesHeadsThatAreTooWideTogether) {
  const Json json = With(With(Llama(), "num_attention_heads", 16384), "head_dim", 16384);
  EXPECT_THAT(ParseModelConfig(json), StatusIs(kInvalid, HasSubstr("\"head_dim\" is 16384")));
}

TEST(ParseModelConfig, CutsLongValuesInErrors) {
  const Json json = With(Llama(), "hidden_size", std::string(5000, 'x'));
  const absl::Status status = ParseModelConfig(json).status();
  EXPECT_THAT(status, StatusIs(kInvalid, AllOf(HasSubstr("hidden_size"), HasSubstr("xxx"))));
  EXPECT_LT(status.message().size(), 400U);
}

}  // namespace
}  // namespace secateur
