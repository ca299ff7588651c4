// Roughly what compensation needs, told before it runs (Plan).
#pragma once

#include <cstdint>

#include "server/compensate/compensate.h"
#include "server/model/config.h"

namespace secateur {

struct CompensationCost {
  int64_t memory_bytes = 0;  // beside the resident base, where that is (the device's memory);
                             // forward passes included
  int64_t disk_bytes = 0;    // of second moments, in temporary files
};

struct CostOptions {
  Shape shape = Shape::kUniform;
  Compensation compensation = Compensation::kLeastSquares;
  bool attention = false;  // whether channels of attention go as well
};
// For `tokens` of text, held-out ones included.
CompensationCost CostOfCompensation(const ModelConfig& config, int64_t tokens,
                                    int64_t held_out_tokens, const CostOptions& options);

}  // namespace secateur
