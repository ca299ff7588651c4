// Which rows of the vocabulary text needs that is like the selected one, beside those that it
// shows: of other German documents 4.4 % of the tokens are not what 580 of them are made of
// (decisions/0008).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/digest.h"
#include "server/base/run_context.h"
#include "server/model/transformer.h"
#include "server/pipeline/device_lane.h"
#include "server/tokenizer/tokenizer.h"

namespace secateur {

// The documents with the lowest digests: the same few whatever order they come in. One thread at a
// time. At most 32 MiB of text.
class TextSample {
 public:
  static constexpr size_t kDocuments = 32;

  // `digest` is of `text`.
  void Add(const Digest& digest, const std::string& text);
  const std::map<Digest, std::string>& texts() const { return texts_; }

 private:
  std::map<Digest, std::string> texts_;
};

// By row of the embedding, higher first: how like it is to the rows of `examples`, which the text
// consists of (RowAffinity), and twice the logarithm of the mean probability that the model gives
// it after each token of the sample (the first 128 of a document), each standardised over all rows.
//
// Measured with Gemma 3 270M, a fifth of the documents held out, 88 thousand rows kept: of the
// tokens of held-out German .147 % fall apart by likeness alone, .121 % by both; of French .090 %
// and .049 %.
//
// One forward pass over the sample. Reports "expect" in documents. INVALID_ARGUMENT for no
// examples or one that is no row; CANCELLED; what the tokenizer and the model say.
absl::StatusOr<std::vector<float>> ScoreRows(const Transformer& model, const Tokenizer& tokenizer,
                                             const std::vector<int32_t>& examples,
                                             const TextSample& sample, DeviceLane& lane,
                                             RunContext& context);

}  // namespace secateur
