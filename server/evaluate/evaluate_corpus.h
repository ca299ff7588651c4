// Bits per byte of a whole corpus: of a resident model, or of a folder that is read layer by layer.
//
// Documents are cut as evaluate.py cuts them: at the end of their `max_tokens`-th token (the first
// token, BOS, not counted), and tokenised again. Both kinds of model see the same packed blocks.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/corpus/corpus.h"
#include "server/corpus/packing.h"
#include "server/evaluate/bits_per_byte.h"
#include "server/model/transformer.h"
#include "server/model/weights.h"
#include "server/tokenizer/tokenizer.h"

namespace secateur {

// Calls its argument for each document, in order; returns the first error.
using DocumentVisitor =
    std::function<absl::Status(const std::function<absl::Status(const Document&)>&)>;

struct EvaluateOptions {
  int64_t max_tokens = 256;     // of a document, 1 to the model's max_positions - 1
  int64_t block_tokens = 2048;  // of one forward pass
};

// A model on disk whose embedding, final norm and head equal those of a resident base, byte for
// byte: what VerifyExpert has shown of an expert. All three must outlive the call.
struct StreamedModel {
  const ModelFolder& folder;
  const OuterWeights& outer;  // the base's
  const Device& device;
};

// INVALID_ARGUMENT for options out of range or no documents. Reports "evaluate" in documents.
absl::StatusOr<BitsPerByte> EvaluateCorpus(const Transformer& model, const Tokenizer& tokenizer,
                                           const DocumentVisitor& documents,
                                           const EvaluateOptions& options, RunContext& context);

// The same for a folder. Memory: one layer, and the hidden states of as many blocks as fit into
// 64 MiB (one block at least); each such group reads every layer once.
absl::StatusOr<BitsPerByte> EvaluateCorpus(const StreamedModel& model, const Tokenizer& tokenizer,
                                           const DocumentVisitor& documents,
                                           const EvaluateOptions& options, RunContext& context);

}  // namespace secateur
