// The units of attention that Cus-Prun ranks, each set of a layer a ranking of its own (ALGORITHM
// 1, 2.2, 2.3). We say "channel" where the paper says neuron.
#pragma once

#include <cstdint>

#include "server/base/status_macros.h"

namespace secateur {

// H query heads, G KV heads of e channels: query head h reads KV head h / (H / G).
struct AttentionHeads {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;

  friend bool operator==(const AttentionHeads&, const AttentionHeads&) = default;
};

// One of something for each set.
template <class T>
struct AttentionSets {
  // Columns of o_proj, h e + j: H e of them.
  T output{};
  // Rows of v_proj, g e + j: G e of them.
  T value{};
  // Rotated pairs, g e/2 + p with p < e/2: G e/2 of them. A pair is what a rotary embedding leaves
  // of removing rows: rows p and p + e/2 of KV head g in k_proj and of every query head that reads
  // it in q_proj, which go together.
  T query_key{};

  friend bool operator==(const AttentionSets&, const AttentionSets&) = default;
};

// Calls visit(name, member) for each set, where member(sets) is that set's part of `sets`; the
// first error ends it. Names are those of FORMAT.md.
template <class Visit>
absl::Status ForEachAttentionSet(const Visit& visit) {
  RETURN_IF_ERROR(visit("output", [](auto& sets) -> auto& { return sets.output; }));
  RETURN_IF_ERROR(visit("value", [](auto& sets) -> auto& { return sets.value; }));
  return visit("query_key", [](auto& sets) -> auto& { return sets.query_key; });
}

// How many units each set has.
inline AttentionSets<int64_t> UnitsOf(const AttentionHeads& heads) {
  return {.output = heads.heads * heads.head_dim,
          .value = heads.kv_heads * heads.head_dim,
          .query_key = heads.kv_heads * heads.head_dim / 2};
}

}  // namespace secateur
