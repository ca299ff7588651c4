// Bits per byte on text: how well a model predicts it, comparable across tokenizers.
//
// bpb = -sum log2 p(token | those before) / bytes of the text those tokens cover; the first token
// (BOS) is given. Documents are cut after `max_document_tokens` - 1 tokens and scored on exactly
// the bytes kept; with max_document_tokens = N + 1 this is what evaluate.py computes with --tokens
// N.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/corpus/packing.h"
#include "server/model/transformer.h"

namespace secateur {

struct BitsPerByte {
  double nats = 0;
  int64_t tokens = 0;  // predicted ones
  int64_t bytes = 0;
  int64_t documents = 0;
  double value() const;  // bits per byte; 0 for no bytes
};

// Adds what TokenNll() gave for `block`. DATA_LOSS when it is not finite.
absl::Status AddNll(const std::vector<double>& nll, const TokenBlock& block, BitsPerByte& sum);

// Adds one packed block. As Transformer::Forward() and AddNll() else.
absl::Status AddBitsPerByte(const Transformer& model, const TokenBlock& block, RunContext& context,
                            BitsPerByte& sum);

}  // namespace secateur
