// How often a tokenizer gives each token on texts.
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

}  // namespace secateur
