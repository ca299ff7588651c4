// Documents to packed batches of tokens: framing and packing.
//
// A document is [first_token_id] + its tokens, cut to `max_document_tokens`. Consecutive documents
// fill a block until the next one would pass `block_tokens`; a document is never split, one longer
// than a block has a block of its own. Packing is a function of the corpus, the tokenizer and the
// settings alone.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "server/corpus/corpus.h"
#include "server/tokenizer/tokenizer.h"

namespace secateur {

struct FramingSettings {
  int64_t max_document_tokens = 512;  // first token included, at least 1
  int64_t block_tokens = 2048;        // at least 1
};
inline constexpr int kFramingVersion = 1;

// Tokens of documents behind one another; sequence i is ids[offsets[i], offsets[i+1]).
struct TokenBlock {
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets{0};
  std::vector<int64_t> text_bytes;  // of each document's text that its kept tokens cover
  int64_t dropped_tokens = 0;       // cut off by max_document_tokens
};

// One thread at a time.
class Packer {
 public:
  using Sink = std::function<absl::Status(const TokenBlock&)>;
  // `tokenizer` must outlive the packer.
  Packer(const Tokenizer& tokenizer, int64_t first_token_id, FramingSettings settings, Sink sink);

  // INVALID_ARGUMENT for settings or a first token out of range, else what the tokenizer or the
  // sink says.
  absl::Status Add(const Document& document);
  // Hands out the last block, if there is one.
  absl::Status Finish();

  // Of all documents so far, as they were cut, first tokens included.
  int64_t tokens() const { return tokens_; }

 private:
  const Tokenizer& tokenizer_;
  const int64_t first_token_id_;
  const FramingSettings settings_;
  const Sink sink_;
  TokenBlock block_;
  int64_t tokens_ = 0;
};

}  // namespace secateur
