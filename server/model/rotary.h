// Tables of the rotation that gives queries and keys their positions.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "server/model/config.h"

namespace secateur {

// [positions, head_dim / 2], float32 on the CPU. Undefined when no layer needs them.
struct RotaryTables {
  at::Tensor cos, sin;
};

// For positions 0 .. positions-1: angle(p, i) = p f_i with f_i = theta^(-2i / head_dim), scaled as
// `rope` says. Computed by the operations that Transformers uses, in float32: at positions of
// thousands their rounding shows. Inside GuardTorch.
RotaryTables MakeRotaryTables(const RopeConfig& rope, int64_t head_dim, int64_t positions);

}  // namespace secateur
