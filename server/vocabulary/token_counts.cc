#include "server/vocabulary/token_counts.h"

#include <algorithm>

#include "server/base/status_macros.h"

namespace secateur {

absl::Status CountTokens(const Tokenizer& tokenizer, std::string_view text, TokenCounts& sum) {
  ASSIGN_OR_RETURN(const Tokenizer::Encoding encoding, tokenizer.Encode(text));
  for (const uint32_t id : encoding.ids) {
    if (sum.by_id.size() <= id) sum.by_id.resize(size_t{id} + 1);
    ++sum.by_id[id];
  }
  sum.tokens += static_cast<int64_t>(encoding.ids.size());
  sum.bytes += static_cast<int64_t>(text.size());
  ++sum.documents;
  return absl::OkStatus();
}

void AddCounts(const TokenCounts& counts, TokenCounts& sum) {
  sum.by_id.resize(std::max(sum.by_id.size(), counts.by_id.size()));
  for (size_t id = 0; id < counts.by_id.size(); ++id) sum.by_id[id] += counts.by_id[id];
  sum.tokens += counts.tokens;
  sum.bytes += counts.bytes;
  sum.documents += counts.documents;
}

}  // namespace secateur
