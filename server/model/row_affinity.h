// How much each row of an embedding is like the rows of given tokens: which further tokens a text
// may need that shows these.
//
// One linear score of a row's direction and of the logarithm of its id (ids rise as training found
// tokens, roughly by falling frequency), fitted by ridge least squares to be 1 on the examples and
// 0 on a sample of all rows, both sides with equal weight. No forward pass.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"

namespace secateur {

// A score for each row of `embedding` [vocabulary, d]; higher is more alike. INVALID_ARGUMENT for
// no examples, or one that is not a row.
absl::StatusOr<std::vector<float>> RowAffinity(const at::Tensor& embedding,
                                               const std::vector<int32_t>& examples);

}  // namespace secateur
