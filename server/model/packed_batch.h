// Token sequences behind one another without padding: what one forward pass computes.
#pragma once

#include <cstdint>
#include <vector>

namespace secateur {

struct PackedBatch {
  std::vector<int32_t> ids;      // all tokens of all sequences
  std::vector<int64_t> offsets;  // sequence i is ids[offsets[i], offsets[i+1]); first 0, last size

  int64_t sequences() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
};

}  // namespace secateur
