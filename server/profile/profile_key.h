// What a profile was made from: two profiles of the same key are the same profile. Plain data.
#pragma once

#include <cstdint>
#include <string>

#include "server/base/digest.h"

namespace secateur {

struct ProfileKey {
  std::string model;        // the model's name on this server, "smollm2": not part of the digest
  Digest model_digest;      // config and weights
  Digest tokenizer_digest;  // tokenizer.json
  Digest corpus_digest;
  int64_t max_document_tokens = 0;
  int64_t block_tokens = 0;
  int64_t framing_version = 0;
  int64_t scoring_version = 0;
  std::string compute_type;  // "float32", "bfloat16"
  std::string device_kind;   // "cpu", "cuda"
  bool attention = false;    // with statistics of attention

  // FORMAT.md says what is hashed.
  Digest digest() const;
  std::string id() const { return digest().Id('p'); }
};

}  // namespace secateur
