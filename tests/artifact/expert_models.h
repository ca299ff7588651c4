// What tests that compute with experts share: tiny bases by name, an expert's folder made as a
// caller of server/artifact makes it, models loaded on the CPU, tokens to feed them.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "server/artifact/hf_layout.h"
#include "server/base/status_macros.h"
#include "server/model/transformer.h"
#include "server/storage/local_store.h"
#include "tests/artifact/random_base.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {

inline std::vector<std::string> TinyModelNames() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) names.push_back(model.name);
  return names;
}

// Of the families without a norm behind the FFN, whose configs can hold biases of it.
inline std::vector<std::string> TinyLlamaNames() {
  std::vector<std::string> names = TinyModelNames();
  std::erase_if(names, [](const std::string& name) { return !name.starts_with("llama"); });
  return names;
}

inline std::unique_ptr<Transformer> LoadModel(const std::string& folder) {
  RunContext context;
  auto opened = ModelFolder::Open(folder);
  EXPECT_OK(opened);
  auto model = Transformer::Load(*std::move(opened), Device{}, context);
  EXPECT_OK(model);
  return *std::move(model);
}

// Two sequences of random tokens, longer than the sliding window of the tiny models.
inline PackedBatch SomeTokens(const ModelConfig& config) {
  std::mt19937 random(11);
  PackedBatch batch;
  batch.offsets = {0, 20, 90};
  for (int i = 0; i < 90; ++i) {
    batch.ids.push_back(
        static_cast<int32_t>(random() % static_cast<uint64_t>(config.vocabulary_size)));
  }
  return batch;
}

// The biases that bias compensation brings to a cut of `mask`: something for down and, where the
// base has none, zeros for gate and up, in the type of down_proj.
inline std::unique_ptr<ScratchTensors> SomeFfnBiases(const ModelFolder& base, const Mask& mask,
                                                     Shape shape) {
  auto tensors = ScratchTensors::Create();
  EXPECT_OK(tensors);
  const DType dtype = base.tensors().Find("model.layers.0.mlp.down_proj.weight")->dtype;
  ModelConfig config = base.config();
  config.mlp_bias = true;
  for (const TensorInfo& info : TensorTable(config)) {
    const bool down = info.role == TensorRole::kDownBias;
    const bool input = info.role == TensorRole::kGateBias || info.role == TensorRole::kUpBias;
    if (!down && (!input || base.config().mlp_bias)) continue;
    TensorSpec spec{info.name, dtype, info.shape};
    if (!down && shape == Shape::kUniform) spec.shape[0] = std::ssize(mask.kept[0]);
    // Of 2 or 4 bytes 0x3d: about 0.05 in bfloat16 and float32, 1.3 in float16.
    const char byte = down ? '\x3d' : '\0';
    EXPECT_OK((*tensors)->Add(spec, std::string(static_cast<size_t>(ByteSize(spec)), byte)));
  }
  EXPECT_OK((*tensors)->Seal());
  return *std::move(tensors);
}

inline absl::Status WriteExpertFolder(const ModelFolder& base, const Cut& cut,
                                      const std::string& folder,
                                      const HfLayoutOptions& options = {}) {
  RunContext context;
  ASSIGN_OR_RETURN(const auto store, LocalStore::Open(folder));
  ASSIGN_OR_RETURN(const auto source, MakeSlicedSource(base.config(), base.tensors(), cut));
  RETURN_IF_ERROR(WriteWeights(*source, *store, "", options, context).status());
  const auto width = cut.shape == Shape::kMasked ? base.config().intermediate_size
                                                 : static_cast<int64_t>(cut.mask.kept[0].size());
  ExpertShape shape = {.width = width, .ffn_bias = WithAddedTensors(base.config(), cut).mlp_bias};
  if (!cut.mask.vocabulary.empty()) shape.vocabulary = std::ssize(cut.mask.vocabulary);
  const AttentionHeads heads = HeadsOf(base.config(), cut);
  if (heads != HeadsOf(base.config())) shape.heads = heads;
  const std::string config = ConfigText(ExpertConfigJson(base.config_json(), shape));
  RETURN_IF_ERROR(PutFile("config.json", config, *store, "").status());
  ASSIGN_OR_RETURN(const std::vector<std::string> carried, CarriedFiles(base.path()));
  for (const std::string& name : carried) {
    RETURN_IF_ERROR(CopyFile(base.path() + "/" + name, name, *store, "", context).status());
  }
  return absl::OkStatus();
}

}  // namespace secateur
