// How often a tokenizer gives each token on texts, and how many tokens two tokenizers need for the
// same text.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/tokenizer/tokenizer.h"

namespace secateur {

struct TokenCounts {
  std::vector<int64_t> by_id;  // as long as the largest id seen needs
  int64_t tokens = 0;          // their sum
  int64_t bytes = 0;           // of the texts
  int64_t documents = 0;
};

// Adds a whole text; errors as Tokenizer::Encode().
absl::Status CountTokens(const Tokenizer& tokenizer, std::string_view text, TokenCounts& sum);
void AddCounts(const TokenCounts& counts, TokenCounts& sum);

// Tokens for the same bytes before and after trimming: fewer tokens known, more tokens needed.
struct Fertility {
  int64_t bytes = 0;
  int64_t base_tokens = 0;
  int64_t trimmed_tokens = 0;
  // Share of tokens that came on top; 0 for no text.
  double growth() const;
};

// Adds a whole text; errors as Tokenizer::Encode().
absl::Status AddFertility(const Tokenizer& base, const Tokenizer& trimmed, std::string_view text,
                          Fertility& sum);

}  // namespace secateur
