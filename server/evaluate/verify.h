// An expert's files against its reference: the base with the mask applied and the replaced tensors
// in place of its own, on the rows of the vocabulary that stay.
//
// First what needs no tolerance (compare_weights.h): config.json, the tensors outside the layers
// byte for byte, each layer's weights value for value. Then what they compute: both residual
// streams start at the embedding of the same tokens; after every layer the largest difference is
// compared with the largest magnitude; then final norm and the logits of the last 64 positions. At
// most one layer of the expert is held beside the resident base, and embedding and head where the
// vocabulary was cut.
#pragma once

#include <cstdint>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/mask/cut.h"
#include "server/model/packed_batch.h"
#include "server/model/transformer.h"
#include "server/model/weights.h"

namespace secateur {

struct VerifyOptions {
  // max |expert - reference| <= tolerance * max |reference|, at every layer and for the logits.
  double tolerance = 1e-3;
  // What config.json must say; null: what the base's says, with the sizes of the
  // cut.
  const nlohmann::ordered_json* config = nullptr;
};

struct Verification {
  int64_t tokens = 0;
  double max_layer_error = 0;  // relative, largest over layers
  double max_logit_error = 0;  // relative
  double expert_nats_per_token = 0;
};

// `sample` is numbered as the expert's tokens are: as the base's unless the vocabulary was cut.
// DATA_LOSS naming the tensor or layer and both numbers when the expert is not its reference.
// INVALID_ARGUMENT for a mask or a sample that does not fit the base. Reports "verify" in layers.
absl::StatusOr<Verification> VerifyExpert(const Transformer& base, const Cut& cut,
                                          const ModelFolder& expert, const PackedBatch& sample,
                                          const VerifyOptions& options, RunContext& context);

}  // namespace secateur
