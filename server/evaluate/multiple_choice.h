// Multiple choice by log-likelihood, as `multiple_choice` of benchmarks/quality/evaluate.py.
//
// The model chooses the option whose text it finds likeliest a byte, behind the document's text up
// to the answer; the first of equally likely ones. Options are written as the right one is in the
// text: with a letter ("B. Rome") or without. Pure functions; no forward pass here.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/corpus/corpus.h"
#include "server/tokenizer/tokenizer.h"

namespace secateur {

// One option behind its question: ids[start, end) are the answer.
struct ChoiceOption {
  std::vector<int32_t> ids;
  int64_t start = 1;
  int64_t answer_bytes = 0;  // at least 1
};

// Every option of `document`, in order; none unless the document has choices, the right one and the
// answer's place, and every option has text. The answer begins where the tokens of question and
// option first differ from those of the question alone. Sequences keep their last `max_tokens`
// tokens (at least 2): the answer and what is next to it.
absl::StatusOr<std::vector<ChoiceOption>> FrameChoices(const Tokenizer& tokenizer,
                                                       int64_t first_token_id,
                                                       const Document& document,
                                                       int64_t max_tokens);

struct ChoiceAnswer {
  int64_t chosen = -1;
  int64_t label = 0;  // the right one
  bool right() const { return chosen == label; }
};

struct AccuracyComparison {
  int64_t count = 0;  // documents
  double base = 0;    // share answered rightly; 0 for none
  double expert = 0;
  // 95 % interval of expert - base: percentiles of 2000 bootstrap draws over documents, paired,
  // from a fixed seed. The same answers give the same interval, on every machine.
  double difference_low = 0;
  double difference_high = 0;
};

// INVALID_ARGUMENT unless both answer the same documents. Checks for cancellation at each draw.
absl::StatusOr<AccuracyComparison> CompareAccuracy(const std::vector<ChoiceAnswer>& base,
                                                   const std::vector<ChoiceAnswer>& expert,
                                                   const RunContext& context);

}  // namespace secateur
