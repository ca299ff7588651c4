// One table names every tensor of a model, its shape and which axis holds which unit. The loader,
// the slicer, the parameter counts and the tests all ask it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/model/config.h"

namespace secateur {

enum class Axis {
  kOther,
  kNeuron,        // FFN neurons of `layer`
  kQueryChannel,  // (query head, channel) of `layer`: rows of q_proj, columns of o_proj
  kKvChannel,     // (KV head, channel) of `layer`: rows of k_proj and v_proj
  kVocabulary,
};

enum class TensorRole {
  kEmbedding,
  kFinalNorm,
  kHead,
  kInputNorm,
  kPostAttentionNorm,
  kPreFfnNorm,
  kPostFfnNorm,
  kQuery,
  kKey,
  kValue,
  kOutput,
  kQueryNorm,
  kKeyNorm,
  kQueryBias,
  kKeyBias,
  kValueBias,
  kOutputBias,
  kGate,
  kUp,
  kDown,
  kGateBias,
  kUpBias,
  kDownBias,
};

// Of gate_proj, up_proj or down_proj.
bool IsFfnBias(TensorRole role);

struct TensorInfo {
  std::string name;  // Hugging Face's
  TensorRole role = TensorRole::kEmbedding;
  int64_t layer = -1;  // -1 outside the layers
  std::vector<int64_t> shape;
  std::vector<Axis> axes;  // as long as shape
};

// Every tensor of the model, embeddings first, then layer by layer, then the final norm and the
// head (absent when tied). The order is fixed: artifacts are written in it.
std::vector<TensorInfo> TensorTable(const ModelConfig& config);

// Parameters of all tensors, each counted once.
int64_t CountParameters(const ModelConfig& config);
// Parameters of the layers alone (no embeddings, head or final norm).
int64_t CountBlockParameters(const ModelConfig& config);

}  // namespace secateur
