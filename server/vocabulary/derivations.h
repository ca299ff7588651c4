// How the merge rules build each token: the tokens they pass through, from single characters up.
//
// In any text, a token that the tokenizer gives for a span was built inside that span, by the very
// merges that its own characters alone would take: a merge across the border would have swallowed
// it, and which of the inner pairs comes first does not depend on what is outside. So the
// derivation of a text is that of its tokens, and need not be followed through the text.
//
// Immutable, thread-safe. Memory: about 30 bytes a merge.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/vocabulary/bpe_file.h"

namespace secateur {

class Derivations {
 public:
  explicit Derivations(const BpeFile& file);  // must outlive this

  // Every token on the way to `id`, once for each time it is made, `id` itself last. `id` alone for
  // what the merges do not make: added tokens, bytes, and words that `ignore_merges` takes whole.
  // REQUIRES: 0 <= id < file.id_limit().
  std::vector<int32_t> Of(int32_t id) const;

 private:
  struct Rule {
    uint32_t rank = 0;
    int32_t product = 0;
  };
  const Rule* Find(int32_t left, int32_t right) const;
  // The tokens of its single characters, where derivations begin; empty where one has no token.
  std::vector<int32_t> Characters(int32_t id) const;

  const BpeFile& file_;
  std::unordered_map<uint64_t, Rule> rules_;  // by left << 32 | right
};

// How often each token is made, by id, where the tokenizer gives each token `counts[id]` times.
// A token that others are made of counts at least as often as they do.
// REQUIRES: `counts` has a place for every id of the file.
std::vector<int64_t> DerivationCounts(const Derivations& derivations,
                                      const std::vector<int64_t>& counts);

}  // namespace secateur
