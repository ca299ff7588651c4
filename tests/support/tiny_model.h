// Tiny random models as Hugging Face folders: weights, config.json, generation_config.json and a
// byte-level tokenizer, small enough for whole-pipeline tests and real enough for Transformers to
// load. The same model and seed give the same bytes everywhere.
//
//   const TinyModel model = FindTinyModel("gemma3");
//   ASSERT_OK(WriteTinyModel(model, temp_dir.path()));
//
// A test that wants another shape changes `config` first: tensors and tokenizer follow from it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "server/format/dtype.h"

namespace secateur {

constexpr int64_t kTinyBos = 270;
constexpr int64_t kTinyEos = 271;

struct TinyModel {
  std::string name;
  nlohmann::ordered_json config;  // config.json
  DType dtype = DType::kF32;      // BF16, F16 or F32
  uint64_t seed = 1;
  int shards = 1;  // 1: model.safetensors; more: shards and an index
};

// One for each feature of each family: llama_mha, llama_gqa (tied, bfloat16), llama_head_dim,
// llama_biases, llama_linear_rope, llama_llama3_rope, llama_rope_parameters (the keys of
// Transformers 5), gemma3 (bfloat16; window 8), gemma3_rope_parameters, gemma3_pattern (windows by
// sliding_window_pattern, linear rope scaling, untied). 3 or 4 layers, hidden size 64, 128 neurons
// a layer, vocabulary 272: 256 bytes, then merges and special tokens, <|bos|> 270 and <|eos|> 271.
std::vector<TinyModel> TinyModels();
// REQUIRES: `name` is one of them.
TinyModel FindTinyModel(std::string_view name);

// Writes all files of `model` into `folder`, which exists. The config must be one that we support.
absl::Status WriteTinyModel(const TinyModel& model, const std::string& folder);

// The tokenizer.json of every tiny model; a vocabulary of more than 272 tokens, at most 900, goes
// on with pairs of letters that are merged after all others.
std::string TinyTokenizerJson(int64_t vocabulary_size = 272);

}  // namespace secateur
