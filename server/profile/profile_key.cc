#include "server/profile/profile_key.h"

namespace secateur {

Digest ProfileKey::digest() const {
  Sha256 hash;
  hash.UpdateField("secateur.profile");
  for (const Digest& input : {model_digest, tokenizer_digest, corpus_digest}) {
    hash.UpdateField(input.Hex());
  }
  for (const int64_t number :
       {max_document_tokens, block_tokens, framing_version, scoring_version}) {
    hash.UpdateField(static_cast<uint64_t>(number));
  }
  hash.UpdateField(compute_type);
  hash.UpdateField(device_kind);
  if (attention) hash.UpdateField("attention");
  return hash.Finish();
}

}  // namespace secateur
