// A byte-pair-encoding tokenizer.json as data: its tokens and merges, and everything else as it
// stands, unknown keys included, in its order. Only what trimming can keep its promise for is
// accepted (decisions/0008): the rest is refused by name.
//
// Immutable after Parse(), thread-safe, movable. Memory: about six times the file.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace secateur {

// `left` and `right`, next to one another, become `product`. Ids of tokens.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t product = 0;
};

class BpeFile {
 public:
  BpeFile(BpeFile&&) = default;
  BpeFile& operator=(BpeFile&&) = default;
  // INVALID_ARGUMENT for what is no tokenizer.json, naming the place. UNIMPLEMENTED naming the key
  // and the value for another model than BPE, for dropout, subword prefixes and suffixes, for
  // merges of byte or unknown tokens, and for a post-processor that is not known.
  static absl::StatusOr<BpeFile> Parse(std::string_view tokenizer_json);

  // One more than the largest id.
  int32_t id_limit() const { return static_cast<int32_t>(tokens_.size()); }
  // As the file spells it; empty when no token has this id. REQUIRES: 0 <= id < id_limit().
  const std::string& token(int32_t id) const { return tokens_[static_cast<size_t>(id)]; }
  // Whether a token has this id, of any value: an embedding may have more rows than there are
  // tokens.
  bool IsToken(int64_t id) const {
    return id >= 0 && id < id_limit() && !token(static_cast<int32_t>(id)).empty();
  }
  // Of a token of the model, which added tokens may or may not be.
  std::optional<int32_t> ModelId(std::string_view token) const;
  // In the order of the file: earlier ones are applied first.
  const std::vector<Merge>& merges() const { return merges_; }
  // Text that is taken out before the model sees the rest; ascending.
  const std::vector<int32_t>& added() const { return added_; }
  // <0x00> to <0xFF>, which stand in for characters that have no token; empty without
  // byte_fallback.
  const std::vector<int32_t>& byte_tokens() const { return byte_tokens_; }
  std::optional<int32_t> unknown_token() const { return unknown_; }
  // Every id that the file names outside of vocabulary and merges.
  std::vector<int64_t> NamedIds() const;

  // The file with the tokens `kept` alone, `kept[i]` under the new id i, and those merges whose two
  // parts and product are kept, in their order. REQUIRES: `kept` ascends and holds all NamedIds();
  // ids without a token are left out.
  std::string Trimmed(const std::vector<int32_t>& kept) const;

 private:
  friend class BpeFileReader;
  BpeFile() = default;

  nlohmann::ordered_json rest_;      // model.vocab and model.merges are null
  bool merges_are_strings_ = false;  // "a b" instead of ["a", "b"]
  std::vector<std::string> tokens_;  // by id
  std::unordered_map<std::string_view, int32_t> model_ids_;  // keys are parts of tokens_
  std::vector<Merge> merges_;
  std::vector<int32_t> added_;
  std::vector<int32_t> byte_tokens_;
  std::optional<int32_t> unknown_;
};

}  // namespace secateur
