#include "server/model/weights.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/format/safetensors_writer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

struct StoredTensor {
  TensorSpec spec;
  std::string bytes;
};
using Tensors = std::vector<StoredTensor>;

// Reads the tensors of a folder, lets `change` at them, and writes them again.
void Rewrite(const TempDir& folder, const std::function<void(Tensors&)>& change) {
  Tensors tensors;
  {
    const SafetensorsFolder before = SafetensorsFolder::Open(folder.path()).value();
    for (const auto& [name, view] : before.tensors()) {
      tensors.push_back(
          {{.name = name, .dtype = view.dtype, .shape = view.shape}, std::string(view.bytes)});
    }
  }
  change(tensors);
  std::vector<TensorSpec> specs;
  for (const StoredTensor& tensor : tensors) specs.push_back(tensor.spec);
  std::string file;
  SafetensorsWriter writer([&file](std::string_view bytes) {
    file.append(bytes);
    return absl::OkStatus();
  });
  ASSERT_OK(writer.Begin(specs, {}));
  for (const StoredTensor& tensor : tensors) ASSERT_OK(writer.Write(tensor.bytes));
  ASSERT_OK(writer.Finish());
  folder.Write("model.safetensors", file);
}

StoredTensor& Named(Tensors& tensors, std::string_view name) {
  for (StoredTensor& tensor : tensors) {
    if (tensor.spec.name == name) return tensor;
  }
  throw std::out_of_range(std::string(name));
}

void RewriteConfig(const TempDir& folder, const std::string& key, const Json& value) {
  std::ifstream in(folder.Join("config.json"));
  Json config = Json::parse(in);
  config[key] = value;
  folder.Write("config.json", config.dump());
}

TEST(ModelFolder, OpensEveryTinyModel) {
  for (TinyModel model : TinyModels()) {
    for (const int shards : {1, 3}) {
      TempDir folder;
      model.shards = shards;
      ASSERT_OK(WriteTinyModel(model, folder.path())) << model.name;
      ASSERT_OK_AND_ASSIGN(const auto opened, ModelFolder::Open(folder.path()));
      EXPECT_EQ(opened->table().size(), opened->tensors().tensors().size()) << model.name;
      EXPECT_EQ(opened->path(), folder.path());
      EXPECT_EQ(opened->config_json()["model_type"], opened->config().model_type);
    }
  }
}

TEST(ModelFolder, TakesTheTypeFromTheWeightsWhereConfigJsonHasNone) {
  TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), folder.path()));
  RewriteConfig(folder, "torch_dtype", nullptr);
  ASSERT_OK_AND_ASSIGN(const auto opened, ModelFolder::Open(folder.path()));
  EXPECT_EQ(opened->config().dtype, "bfloat16");
}

TEST(ModelFolder, LetsTensorsPassThatTheForwardPassDoesWithout) {
  TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), folder.path()));
  Rewrite(folder, [](Tensors& tensors) {
    StoredTensor head = Named(tensors, "model.embed_tokens.weight");
    head.spec.name = "lm_head.weight";
    tensors.push_back(head);
    tensors.push_back({{.name = "model.layers.0.self_attn.rotary_emb.inv_freq",
                        .dtype = DType::kF32,
                        .shape = {1}},
                       "1234"});
  });
  EXPECT_OK(ModelFolder::Open(folder.path()));
}

struct Corruption {
  const char* name;
  std::function<void(const TempDir&)> corrupt;
  absl::StatusCode code;
  std::vector<std::string> mentions;
};

class CorruptFolders : public testing::TestWithParam<Corruption> {};

TEST_P(CorruptFolders, AreRefusedByNameOfWhatIsWrong) {
  TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel("llama_mha"), folder.path()));
  GetParam().corrupt(folder);
  const absl::Status status = ModelFolder::Open(folder.path()).status();
  EXPECT_THAT(status, StatusIs(GetParam().code, HasSubstr(folder.path())));
  for (const std::string& mention : GetParam().mentions) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(mention));
  }
}

std::function<void(const TempDir&)> Change(const std::function<void(Tensors&)>& change) {
  return [change](const TempDir& folder) { Rewrite(folder, change); };
}

void CutShort(const TempDir& folder, const char* name, int64_t by) {
  const std::string path = folder.Join(name);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - static_cast<uintmax_t>(by));
}

std::vector<Corruption> Corruptions() {
  const std::string query = "model.layers.1.self_attn.q_proj.weight";
  return {
      {"NoConfig",
       [](const TempDir& f) { std::filesystem::remove(f.Join("config.json")); },
       absl::StatusCode::kNotFound,
       {"config.json"}},
      {"NoWeights",
       [](const TempDir& f) { std::filesystem::remove(f.Join("model.safetensors")); },
       absl::StatusCode::kNotFound,
       {"model.safetensors"}},
      {"ConfigNoJson",
       [](const TempDir& f) { f.Write("config.json", "{\"a\": "); },
       kInvalid,
       {"config.json", "not JSON"}},
      {"ConfigNoUtf8",
       [](const TempDir& f) { f.Write("config.json", "{\"a\": \"\xff\"}"); },
       kInvalid,
       {"config.json", "not JSON"}},
      {"ConfigEmpty",
       [](const TempDir& f) { f.Write("config.json", ""); },
       kInvalid,
       {"config.json"}},
      {"ConfigHuge",
       [](const TempDir& f) { f.Write("config.json", std::string(5 << 20, ' ') + "{}"); },
       kInvalid,
       {"config.json", "5242882", "4194304"}},
      {"ConfigUnknownFeature",
       [](const TempDir& f) { RewriteConfig(f, "quantization_config", {{"bits", 4}}); },
       absl::StatusCode::kUnimplemented,
       {"config.json", "quantization_config"}},
      {"ConfigOtherWidth",
       [](const TempDir& f) { RewriteConfig(f, "intermediate_size", 96); },
       kInvalid,
       {"model.layers.0.mlp.gate_proj.weight", "[128, 64]", "[96, 64]"}},
      {"ConfigMoreLayers",
       [](const TempDir& f) { RewriteConfig(f, "num_hidden_layers", 4); },
       kInvalid,
       {"model.layers.3.input_layernorm.weight", "missing"}},
      {"ConfigManyMoreLayers",
       [](const TempDir& f) { RewriteConfig(f, "num_hidden_layers", 4000); },
       kInvalid,
       {"num_hidden_layers", "4000"}},
      {"ConfigFewerLayers",
       [](const TempDir& f) { RewriteConfig(f, "num_hidden_layers", 2); },
       kInvalid,
       {"model.layers.2.", "unknown"}},
      {"ConfigBiases",
       [](const TempDir& f) { RewriteConfig(f, "attention_bias", true); },
       kInvalid,
       {"model.layers.0.self_attn.q_proj.bias", "missing"}},
      {"TensorMissing",
       Change([query](Tensors& t) { Named(t, query).spec.name = "renamed"; }),
       kInvalid,
       {query, "missing", "[64, 64]"}},
      {"TensorUnknown",
       Change([](Tensors& t) {
         t.push_back({{.name = "score.weight", .dtype = DType::kF32, .shape = {1}}, "1234"});
       }),
       kInvalid,
       {"score.weight", "unknown"}},
      {"TensorTransposed",
       Change([](Tensors& t) {
         Named(t, "model.layers.2.mlp.down_proj.weight").spec.shape = {128, 64};
       }),
       kInvalid,
       {"model.layers.2.mlp.down_proj.weight", "[128, 64]", "[64, 128]"}},
      {"TensorFlat",
       Change([query](Tensors& t) { Named(t, query).spec.shape = {4096}; }),
       kInvalid,
       {query, "[4096]", "[64, 64]"}},
      {"TensorOfIntegers",
       Change([query](Tensors& t) { Named(t, query).spec.dtype = DType::kI32; }),
       absl::StatusCode::kUnimplemented,
       {query, "I32", "BF16"}},
      {"WeightsCutShort",
       [](const TempDir& f) { CutShort(f, "model.safetensors", 1); },
       kInvalid,
       {"model.safetensors"}},
      {"WeightsWithoutHeader",
       [](const TempDir& f) { f.Write("model.safetensors", "abc"); },
       kInvalid,
       {"model.safetensors"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Table, CorruptFolders, testing::ValuesIn(Corruptions()),
                         [](const auto& c) { return std::string(c.param.name); });

TEST(ModelFolder, ThatDoesNotExistIsNotFound) {
  EXPECT_THAT(ModelFolder::Open("/no/such/folder"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/folder")));
}

TEST(LoadLayer, HoldsTheStoredNumbersInFloat32) {
  for (const char* name : {"llama_biases", "llama_gqa", "llama_head_dim", "gemma3"}) {
    TempDir folder;
    ASSERT_OK(WriteTinyModel(FindTinyModel(name), folder.path()));
    ASSERT_OK_AND_ASSIGN(const auto opened, ModelFolder::Open(folder.path()));
    for (int64_t layer = 0; layer < opened->config().num_layers; ++layer) {
      ASSERT_OK_AND_ASSIGN(const LayerWeights weights, LoadLayer(*opened, layer, Device{}));
      const std::pair<TensorRole, at::Tensor> loaded[] = {
          {TensorRole::kInputNorm, weights.input_norm},
          {TensorRole::kPreFfnNorm, weights.pre_ffn_norm},
          {TensorRole::kQuery, weights.query.weight},
          {TensorRole::kKey, weights.key.weight},
          {TensorRole::kValue, weights.value.weight},
          {TensorRole::kOutput, weights.output.weight},
          {TensorRole::kGate, weights.gate.weight},
          {TensorRole::kUp, weights.up.weight},
          {TensorRole::kDown, weights.down.weight},
          {TensorRole::kQueryBias, weights.query.bias},
          {TensorRole::kDownBias, weights.down.bias},
          {TensorRole::kPostFfnNorm, weights.post_ffn_norm},
          {TensorRole::kKeyNorm, weights.key_norm}};
      for (const auto& [role, tensor] : loaded) {
        const TensorInfo* info = nullptr;
        for (const TensorInfo& row : opened->table()) {
          if (row.layer == layer && row.role == role) info = &row;
        }
        ASSERT_EQ(info != nullptr, tensor.defined()) << name << " " << static_cast<int>(role);
        if (info == nullptr) continue;
        ASSERT_OK_AND_ASSIGN(const TensorView view, opened->tensors().Find(info->name));
        const at::ScalarType type = view.dtype == DType::kF32   ? at::kFloat
                                    : view.dtype == DType::kF16 ? at::kHalf
                                                                : at::kBFloat16;
        const at::Tensor stored =
            at::from_blob(const_cast<char*>(view.bytes.data()), view.shape, type).to(at::kFloat);
        EXPECT_TRUE(at::equal(stored, tensor)) << info->name;
        EXPECT_EQ(tensor.scalar_type(), at::kFloat);
      }
    }
  }
}

TEST(LoadLayer, RefusesALayerThatDoesNotExist) {
  TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel("llama_mha"), folder.path()));
  ASSERT_OK_AND_ASSIGN(const auto opened, ModelFolder::Open(folder.path()));
  EXPECT_THAT(LoadLayer(*opened, 3, Device{}), StatusIs(kInvalid, HasSubstr("layer 3")));
  EXPECT_THAT(LoadLayer(*opened, -1, Device{}), StatusIs(kInvalid, HasSubstr("layer -1")));
}

TEST(LoadOuter, SharesTheEmbeddingWithTheHeadOfATiedModelOnly) {
  for (const char* name : {"llama_gqa", "llama_mha"}) {
    TempDir folder;
    ASSERT_OK(WriteTinyModel(FindTinyModel(name), folder.path()));
    ASSERT_OK_AND_ASSIGN(const auto opened, ModelFolder::Open(folder.path()));
    ASSERT_OK_AND_ASSIGN(const OuterWeights outer, LoadOuter(*opened, Device{}));
    EXPECT_EQ(outer.head.is_same(outer.embedding), opened->config().tied_embeddings);
    EXPECT_EQ(outer.head.sizes(), outer.embedding.sizes());
  }
}

}  // namespace
}  // namespace secateur
