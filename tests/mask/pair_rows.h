// Which rows of q_proj and k_proj are those of pairs.
#pragma once

#include <cstdint>
#include <set>

#include "server/model/config.h"

namespace secateur {

// Rows p and p + e/2 of each of the `heads` that have to do with a KV head's pair.
inline std::set<int64_t> RowsOfPairs(const std::set<int64_t>& pairs, int64_t heads,
                                     const ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  const int64_t group = heads / config.num_kv_heads;
  std::set<int64_t> rows;
  for (const int64_t pair : pairs) {
    for (int64_t head = pair / half * group; head < (pair / half + 1) * group; ++head) {
      rows.insert(head * config.head_dim + pair % half);
      rows.insert(head * config.head_dim + pair % half + half);
    }
  }
  return rows;
}

}  // namespace secateur
