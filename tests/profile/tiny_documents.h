// Tiny models and documents of random tokens to run through them.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "server/model/transformer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {

inline std::unique_ptr<Transformer> LoadTiny(const std::string& name) {
  const TempDir folder;
  EXPECT_OK(WriteTinyModel(FindTinyModel(name), folder.path()));
  RunContext context;
  return Transformer::Load(ModelFolder::Open(folder.path()).value(), Device{}, context).value();
}

inline std::vector<std::string> TinyModelNames() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) names.push_back(model.name);
  return names;
}

using Tokens = std::vector<int32_t>;

inline Tokens RandomTokens(int64_t count, std::mt19937_64& random) {
  Tokens tokens = {270};
  while (static_cast<int64_t>(tokens.size()) < count) {
    tokens.push_back(static_cast<int32_t>(random() % 270));
  }
  return tokens;
}

inline std::vector<Tokens> RandomDocuments(const std::vector<int64_t>& lengths, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Tokens> documents;
  for (const int64_t length : lengths) documents.push_back(RandomTokens(length, random));
  return documents;
}

inline PackedBatch Pack(const std::vector<Tokens>& documents) {
  PackedBatch block{.ids = {}, .offsets = {0}};
  for (const Tokens& document : documents) {
    block.ids.insert(block.ids.end(), document.begin(), document.end());
    block.offsets.push_back(block.tokens());
  }
  return block;
}

}  // namespace secateur
