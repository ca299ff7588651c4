// A base model's tokenizer files, ready to be cut to the tokens that some text needs.
//
//   ASSIGN_OR_RETURN(const auto trimmer, VocabularyTrimmer::Open(folder, tokenizer, rows));
//   const VocabularyOrder order = trimmer->Order(counts, scores);  // of the texts
//   const KeptVocabulary kept = trimmer->Keep(order, RoundedRows(order.needed, rows));
//   ASSIGN_OR_RETURN(const TrimmedVocabulary trimmed, trimmer->Trim(kept));
//
// Immutable, thread-safe. Memory: some 200 MB for 262,144 tokens.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"
#include "server/vocabulary/bpe_file.h"
#include "server/vocabulary/derivations.h"
#include "server/vocabulary/token_counts.h"
#include "server/vocabulary/vocabulary_order.h"

namespace secateur {

struct TrimmedVocabulary {
  // What the expert's folder has instead of the base's files of these names: tokenizer.json, and
  // tokenizer_config.json, added_tokens.json and generation_config.json where the base has them.
  std::map<std::string, std::string> files;
  std::unique_ptr<const Tokenizer> tokenizer;  // of the new tokenizer.json
};

class VocabularyTrimmer {
 public:
  // `tokenizer` is that of the folder's tokenizer.json, `rows` how many rows the embedding has.
  // `tokenizer` must outlive the trimmer. Errors as BpeFile::Parse(); INVALID_ARGUMENT for a file
  // that names an id that is neither a token nor a row, and for one that contradicts `tokenizer`.
  static absl::StatusOr<std::unique_ptr<const VocabularyTrimmer>> Open(const std::string& folder,
                                                                       const Tokenizer& tokenizer,
                                                                       int64_t rows);

  // OrderVocabulary() with what always stays: added and special tokens, bytes, every ASCII
  // character, what the chat template writes, ids that the folder's files name or may leave to
  // defaults (the first 8); without byte_fallback every single character too, since nothing could
  // spell it. `counts` are of `tokenizer`.
  VocabularyOrder Order(const TokenCounts& counts, std::vector<float> scores) const;

  // KeepRows().
  KeptVocabulary Keep(const VocabularyOrder& order, int64_t rows) const;

  // The new files. INTERNAL when the tokenizers library numbers them otherwise than we did.
  absl::StatusOr<TrimmedVocabulary> Trim(const KeptVocabulary& kept) const;

  // Puts the new ids into a config.json of this folder, or of an expert made from it.
  absl::Status Renumber(nlohmann::ordered_json& config, const KeptVocabulary& kept) const;

  // Holds the trimmed tokenizer to its promise on `text`: DATA_LOSS when all that the derivation
  // of the text goes through is kept and it still comes out in other pieces, or when decoding
  // its tokens gives another text than decoding the base's.
  absl::Status CheckText(std::string_view text, const KeptVocabulary& kept,
                         const Tokenizer& trimmed) const;

  // Files that older tools read a vocabulary from, which would contradict the trimmed one:
  // vocab.json, merges.txt, tokenizer.model.
  static bool IsLeftOut(std::string_view name);

  const BpeFile& file() const { return file_; }
  const Derivations& derivations() const { return derivations_; }
  int64_t rows() const { return rows_; }

 private:
  VocabularyTrimmer(std::string folder, const Tokenizer& tokenizer, int64_t rows, BpeFile file);
  absl::Status CollectRequired();
  absl::Status CheckNumbers() const;
  absl::Status RequireTexts(const std::vector<std::string>& texts);
  absl::Status RequireNamedIds();

  const std::string folder_;
  const Tokenizer& tokenizer_;
  const int64_t rows_;
  const BpeFile file_;
  const Derivations derivations_;
  std::vector<int32_t> required_;
};

}  // namespace secateur
