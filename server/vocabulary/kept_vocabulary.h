// Which tokens of a vocabulary stay. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "server/vocabulary/bpe_file.h"
#include "server/vocabulary/derivations.h"

namespace secateur {

// The number of rows is a multiple of this: engines pad or split the head by it.
inline constexpr int64_t kVocabularyMultiple = 64;

struct KeptVocabulary {
  std::vector<int32_t> ids;  // of the base, ascending; ids[i] becomes i
  // The first of them are rows of the embedding; ids behind them are tokens that the base's
  // tokenizer knows and its embedding has no row for.
  int64_t rows = 0;

  std::optional<int32_t> NewId(int64_t id) const;
};

struct VocabularyNeeds {
  // By id: how often the tokenizer gave it on the texts that the vocabulary is for.
  std::vector<int64_t> counts;
  // Ids that stay whatever the texts say, with what they are made of.
  std::vector<int32_t> required;
};

struct VocabularyOptions {
  // A token stays from this many occurrences in the derivations of the texts; at least 1. Above 1,
  // rare tokens fall apart into the ones they are made of.
  int64_t min_occurrences = 1;
  // Rows are filled up to this many with further tokens; 0: only up to kVocabularyMultiple.
  int64_t min_rows = 0;
};

// The closure: with a token, all that its derivation goes through. So every text whose own
// derivation stays within what is kept comes out in the same pieces as before. Further tokens, up
// to the rows wanted, are taken most frequent first, then those spelled with characters of the
// texts, then the rest; lower ids first, which training found earlier. `rows` is how many rows the
// base's embedding has; all of them stay when that many are wanted.
// REQUIRES: ids of `needs` are below file.id_limit() or `rows`.
KeptVocabulary SelectVocabulary(const BpeFile& file, const Derivations& derivations, int64_t rows,
                                const VocabularyNeeds& needs, const VocabularyOptions& options);

}  // namespace secateur
