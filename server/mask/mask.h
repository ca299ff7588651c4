// The yes or no for each FFN neuron of a base model and each row of its vocabulary: what stays.
// Changes no weights.
#pragma once

#include <cstdint>
#include <vector>

#include "server/base/digest.h"

namespace secateur {

struct Mask {
  // For each layer the channels that stay, ascending.
  std::vector<std::vector<int32_t>> kept;
  // Rows of the embedding (and of the head) that stay, ascending; empty: all of them.
  std::vector<int32_t> vocabulary;

  // SHA-256 over the layer count and, for each layer, the size in bytes of its channels and the
  // channels themselves; then the same of the rows, unless all stay. Counts are 64-bit, channels
  // and rows 32-bit, all little-endian. Equal masks, equal digests.
  Digest digest() const;
  friend bool operator==(const Mask&, const Mask&) = default;
};

}  // namespace secateur
