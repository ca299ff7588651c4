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
#include "server/storage/open_store.h"
#include "tests/artifact/random_base.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {

inline std::vector<std::string> TinyModelNames() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) names.push_back(model.name);
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

inline absl::Status WriteExpertFolder(const ModelFolder& base, const Cut& cut,
                                      const std::string& folder,
                                      const HfLayoutOptions& options = {}) {
  RunContext context;
  ASSIGN_OR_RETURN(const auto store, OpenStore("file:" + folder));
  ASSIGN_OR_RETURN(const auto source, MakeSlicedSource(base.config(), base.tensors(), cut));
  RETURN_IF_ERROR(WriteWeights(*source, *store, "", options, context).status());
  const auto width = cut.shape == Shape::kMasked ? base.config().intermediate_size
                                                 : static_cast<int64_t>(cut.mask.kept[0].size());
  const auto rows = static_cast<int64_t>(cut.mask.vocabulary.size());
  const bool ffn_bias = WithAddedTensors(base.config(), cut).mlp_bias && !base.config().mlp_bias;
  const std::string config = ConfigText(ExpertConfigJson(
      base.config_json(), width, rows > 0 ? std::optional(rows) : std::nullopt, ffn_bias));
  RETURN_IF_ERROR(PutFile("config.json", config, *store, "").status());
  ASSIGN_OR_RETURN(const std::vector<std::string> carried, CarriedFiles(base.path()));
  for (const std::string& name : carried) {
    RETURN_IF_ERROR(CopyFile(base.path() + "/" + name, name, *store, "", context).status());
  }
  return absl::OkStatus();
}

}  // namespace secateur
