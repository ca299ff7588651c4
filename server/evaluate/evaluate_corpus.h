// What a model makes of a whole corpus: bits per byte of its text, and the options it chooses where
// documents have choices. One pass for both, of a resident model or of a folder that is read layer
// by layer.
//
// Documents are cut as evaluate.py cuts them: at the end of their `max_tokens`-th token (the first
// token, BOS, not counted), and tokenised again. Options keep their last 2 `max_tokens` tokens, or
// what the model has positions for (multiple_choice.h): a document with n options costs up to
// 1 + 2n times one without.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/corpus/corpus.h"
#include "server/evaluate/bits_per_byte.h"
#include "server/evaluate/layered_model.h"
#include "server/evaluate/multiple_choice.h"
#include "server/evaluate/score_sequences.h"
#include "server/tokenizer/tokenizer.h"

namespace secateur {

// Calls its argument for each document, in order; returns the first error.
using DocumentVisitor =
    std::function<absl::Status(const std::function<absl::Status(const Document&)>&)>;

struct EvaluateOptions {
  int64_t max_tokens = 256;  // of a document, 1 to the model's max_positions - 1
  // Whose tokens those are; null: the model's own tokenizer. Models with different tokenizers are
  // compared on the same bytes when one of them cuts for both.
  const Tokenizer* cut_by = nullptr;
  ScoreOptions score;
  // What is reported: documents that were done before this call, and all there are with them; 0
  // when that is not known.
  int64_t documents_before = 0;
  int64_t documents_total = 0;
};

struct CorpusScores {
  BitsPerByte text;
  std::vector<ChoiceAnswer> choices;  // of the documents that have choices, in their order
};

// INVALID_ARGUMENT for options out of range or no documents; else as SequenceScorer and the
// visitor. Reports "evaluate" in documents.
absl::StatusOr<CorpusScores> EvaluateCorpus(const LayeredModel& model, const Tokenizer& tokenizer,
                                            const DocumentVisitor& documents,
                                            const EvaluateOptions& options, RunContext& context);

}  // namespace secateur
