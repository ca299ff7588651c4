// Which rows of a vocabulary stay at which size. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "server/vocabulary/bpe_file.h"
#include "server/vocabulary/derivations.h"

namespace secateur {

// The number of rows is a multiple of this: engines pad or split the head by it.
inline constexpr int64_t kVocabularyMultiple = 64;

struct VocabularyNeeds {
  // By id: how often the tokenizer gave it on the texts that the vocabulary is for.
  std::vector<int64_t> counts;
  // Ids that stay whatever the texts say.
  std::vector<int32_t> required;
  // By row: how likely other text of the kind needs it, higher for more; may be empty.
  std::vector<float> scores;
};

// Every row of the embedding, in the order in which they should stay. The first n of them are
// closed, whatever n is: with a token, all that its derivation goes through. So every text whose
// derivation stays within them comes out in the same pieces as before.
struct VocabularyOrder {
  std::vector<int32_t> rows;
  int64_t required = 0;  // the first ones: `VocabularyNeeds::required` with what they are made of
  int64_t needed = 0;    // and those that the derivations of the texts make
};

// Behind the required ones, most frequent in the derivations first; then highest score first;
// lower ids, which training found earlier, before equal ones; rows without a token last. `rows`: of
// the base's embedding; ids from there on (tokens that it has no row for) are left out.
VocabularyOrder OrderVocabulary(const BpeFile& file, const Derivations& derivations, int64_t rows,
                                const VocabularyNeeds& needs);

// The fewest rows of the order within which all but `share` of `counts` lies: tokens that are not
// among them fall apart into others.
int64_t RowsForShare(const VocabularyOrder& order, const std::vector<int64_t>& counts,
                     double share);

// `rows` rounded up to kVocabularyMultiple, at most all there are.
int64_t RoundedRows(int64_t rows, int64_t all);

struct KeptVocabulary {
  std::vector<int32_t> ids;  // of the base, ascending; ids[i] becomes i
  // The first of them are rows of the embedding; ids behind them are tokens that the base's
  // tokenizer knows and its embedding has no row for: they all stay.
  int64_t rows = 0;

  std::optional<int32_t> NewId(int64_t id) const;
};

// REQUIRES: order.required <= rows <= order.rows.size().
KeptVocabulary KeepRows(const BpeFile& file, const VocabularyOrder& order, int64_t rows);

}  // namespace secateur
