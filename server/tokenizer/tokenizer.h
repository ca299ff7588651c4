// Text to token ids by Hugging Face's own `tokenizers` library, from a tokenizer.json.
//
// Immutable and thread-safe. Special tokens written in the text are recognised as Transformers
// does; no token is added automatically (documents are framed by their reader); truncation and
// padding settings of the file are ignored. A failure inside the library is INTERNAL.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace secateur {

class Tokenizer {
 public:
  // `json` is the content of tokenizer.json; INVALID_ARGUMENT with the library's reason.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view json);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  struct Encoding {
    std::vector<uint32_t> ids;
    // For each id the byte range [first, second) of `text` it came from, on character boundaries:
    // tokens that share a character all have the whole of it.
    std::vector<std::pair<uint32_t, uint32_t>> offsets;
  };
  // `text` must be UTF-8 below 4 GiB, else INVALID_ARGUMENT. FAILED_PRECONDITION when the
  // vocabulary has no way to spell it (neither bytes nor an unknown token).
  absl::StatusOr<Encoding> Encode(std::string_view text) const;
  // Special tokens are kept in the output. INVALID_ARGUMENT names an id that no token has.
  absl::StatusOr<std::string> Decode(const std::vector<uint32_t>& ids) const;

  std::optional<uint32_t> TokenToId(std::string_view token) const;
  // How many different tokens there are, with added ones; ids may have gaps.
  uint32_t vocabulary_size() const { return vocabulary_size_; }

 private:
  Tokenizer(void* handle, uint32_t vocabulary_size)
      : handle_(handle), vocabulary_size_(vocabulary_size) {}
  void* const handle_;  // made and freed by the Rust side
  const uint32_t vocabulary_size_;
};

}  // namespace secateur
