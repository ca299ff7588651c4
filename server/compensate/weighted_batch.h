// Packed text whose tokens count by weight. Plain data.
#pragma once

#include <vector>

#include "server/model/packed_batch.h"

namespace secateur {

struct WeightedBatch {
  PackedBatch batch;
  std::vector<float> weights;  // >= 0, one for each token
};

}  // namespace secateur
