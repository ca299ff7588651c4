// Weighted text of random tokens for tiny models.
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "server/compensate/weighted_batch.h"
#include "server/model/config.h"

namespace secateur {

// Batches of two sequences, 30 and 45 tokens long.
inline std::vector<WeightedBatch> RandomText(const ModelConfig& config, int batches,
                                             uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<WeightedBatch> text;
  for (int i = 0; i < batches; ++i) {
    WeightedBatch batch{{.ids = {}, .offsets = {0, 30, 75}}, std::vector<float>(75, 0.01F)};
    for (int t = 0; t < 75; ++t) {
      batch.batch.ids.push_back(
          static_cast<int32_t>(random() % static_cast<uint64_t>(config.vocabulary_size)));
    }
    batch.batch.ids[0] = batch.batch.ids[30] = static_cast<int32_t>(config.first_token_id);
    text.push_back(std::move(batch));
  }
  return text;
}

}  // namespace secateur
