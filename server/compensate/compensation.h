// How kept weights make up for what is removed.
#pragma once

namespace secateur {

enum class Compensation {
  kNone,
  kBias,          // a constant on down_proj's output (bias.h)
  kLeastSquares,  // on what reaches each layer in the base
  kSequential,    // on what reaches it in the cut model (sequential.h)
};

}  // namespace secateur
