// A model folder's tensors, checked against the tensor table, and layers of them as libtorch
// tensors on a device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "server/format/safetensors_reader.h"
#include "server/model/config.h"
#include "server/model/tensor_table.h"

namespace secateur {

// "cpu", "cuda:0". Compute type: float32 on CPUs, bfloat16 on CUDA.
struct Device {
  std::string name = "cpu";
  // "cpu", "cuda:N", or "auto": the first CUDA device where the build and the machine have one,
  // else the CPU. INVALID_ARGUMENT for any other text, and for a device that is not there, with the
  // reason. For all but "cpu" a CUDA build loads libtorch's CUDA libraries, which stay.
  static absl::StatusOr<Device> Parse(const std::string& text);
};

// A Hugging Face folder that has been checked: config parsed, every tensor of the table present
// with its shape and a floating dtype (BF16, F16, F32), no tensor that the table does not know
// (except "lm_head.weight" of a tied model, and rotary "inv_freq" buffers). Immutable, thread-safe.
class ModelFolder {
 public:
  // INVALID_ARGUMENT, NOT_FOUND or UNIMPLEMENTED naming the file, the tensor or key, what was
  // found and what was expected.
  static absl::StatusOr<std::shared_ptr<const ModelFolder>> Open(const std::string& folder);

  const std::string& path() const { return path_; }
  const ModelConfig& config() const { return config_; }
  const nlohmann::ordered_json& config_json() const { return config_json_; }
  const std::vector<TensorInfo>& table() const { return table_; }
  const SafetensorsFolder& tensors() const { return tensors_; }

 private:
  ModelFolder(std::string path, ModelConfig config, nlohmann::ordered_json config_json,
              std::vector<TensorInfo> table, SafetensorsFolder tensors);
  const std::string path_;
  const ModelConfig config_;
  const nlohmann::ordered_json config_json_;
  const std::vector<TensorInfo> table_;
  const SafetensorsFolder tensors_;
};

struct LinearWeights {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], undefined when there is none
};

// One decoder layer. Norms that the family lacks are undefined.
struct LayerWeights {
  at::Tensor input_norm, post_attention_norm, pre_ffn_norm, post_ffn_norm;  // [d]
  at::Tensor query_norm, key_norm;                                          // [e]
  LinearWeights query, key, value, output, gate, up, down;
};

struct OuterWeights {
  at::Tensor embedding;   // [vocabulary, d]
  at::Tensor final_norm;  // [d]
  at::Tensor head;        // [vocabulary, d]; the embedding itself when tied
};

// The type that values of a stored type have as tensors. BF16, F16 and F32 only.
at::ScalarType TorchType(DType dtype);

// A tensor of a file, copied to the device in its compute type. BF16, F16 and F32 only.
absl::StatusOr<at::Tensor> LoadTensor(const TensorView& view, const Device& device);

// Copies to the device in its compute type.
absl::StatusOr<LayerWeights> LoadLayer(const ModelFolder& folder, int64_t layer,
                                       const Device& device);
absl::StatusOr<OuterWeights> LoadOuter(const ModelFolder& folder, const Device& device);

}  // namespace secateur
