#include "server/model/weights.h"

#include <filesystem>
#include <map>
#include <string_view>
#include <utility>

#include <ATen/ATen.h>

#include "absl/strings/str_join.h"
#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/model/torch_device.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

constexpr size_t kMaxConfigBytes = size_t{4} << 20;

absl::StatusOr<nlohmann::ordered_json> ReadConfig(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  if (file->bytes().size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(StrCat(path, " has ", file->bytes().size(),
                                             " bytes; at most ", kMaxConfigBytes, " are allowed"));
  }
  try {
    return nlohmann::ordered_json::parse(file->bytes());
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(StrCat(path, " is not JSON: ", error.what()));
  }
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return StrCat("[", absl::StrJoin(shape, ", "), "]");
}

bool IsFloat(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32;
}

absl::Status CheckTensor(const TensorInfo& expected, const TensorView& found) {
  if (found.shape != expected.shape) {
    return absl::InvalidArgumentError(StrCat("tensor \"", expected.name, "\" has the shape ",
                                             ShapeText(found.shape), "; config.json asks for ",
                                             ShapeText(expected.shape)));
  }
  if (!IsFloat(found.dtype)) {
    return absl::UnimplementedError(StrCat("tensor \"", expected.name, "\" has the type ",
                                           DTypeName(found.dtype),
                                           "; supported are BF16, F16 and F32"));
  }
  return absl::OkStatus();
}

// Tensors that checkpoints carry and the forward pass does without.
bool IsRedundant(std::string_view name, const ModelConfig& config) {
  return (config.tied_embeddings && name == "lm_head.weight") ||
         name.ends_with("rotary_emb.inv_freq");
}

absl::Status CheckTensors(const ModelConfig& config, const std::vector<TensorInfo>& table,
                          const std::map<std::string, TensorView>& found) {
  std::map<std::string_view, const TensorInfo*> expected;
  for (const TensorInfo& info : table) {
    expected.emplace(info.name, &info);
    const auto tensor = found.find(info.name);
    if (tensor == found.end()) {
      return absl::InvalidArgumentError(StrCat("tensor \"", info.name,
                                               "\" is missing; config.json asks for one of shape ",
                                               ShapeText(info.shape)));
    }
    RETURN_IF_ERROR(CheckTensor(info, tensor->second));
  }
  for (const auto& [name, view] : found) {
    if (expected.contains(name) || IsRedundant(name, config)) continue;
    return absl::InvalidArgumentError(
        StrCat("tensor \"", name, "\" of shape ", ShapeText(view.shape), " is unknown: a ",
               config.model_type, " model with this config.json has no such tensor"));
  }
  return absl::OkStatus();
}

// Copies a mapped tensor into `target`, converting.
void Fill(const TensorView& source, const at::Tensor& target) {
  // from_blob takes no pointer to const; the tensor is only read.
  void* bytes = const_cast<char*>(source.bytes.data());
  const auto address = reinterpret_cast<uintptr_t>(bytes);
  std::string aligned;
  if (address % static_cast<uintptr_t>(ItemSize(source.dtype)) != 0) {
    aligned = source.bytes;
    bytes = aligned.data();
  }
  target.copy_(at::from_blob(bytes, source.shape, TorchType(source.dtype)));
}

class LayerLoader {
 public:
  LayerLoader(const ModelFolder& folder, int64_t layer, const Device& device)
      : folder_(folder),
        options_(at::TensorOptions().device(TorchDevice(device)).dtype(ComputeType(device))) {
    for (const TensorInfo& info : folder.table()) {
      if (info.layer == layer) infos_.emplace(info.role, &info);
    }
  }

  // Undefined where the model has no such tensor.
  at::Tensor Load(TensorRole role) const { return LoadBehindOneAnother({role}).front(); }
  LinearWeights Load(TensorRole weight, TensorRole bias) const {
    return {Load(weight), Load(bias)};
  }

  // Tensors that differ in their rows only, in one piece of memory: their product with the same
  // input can be one product (layers.h, ProjectTogether).
  std::vector<at::Tensor> LoadBehindOneAnother(const std::vector<TensorRole>& roles) const {
    std::vector<const TensorInfo*> infos;
    int64_t rows = 0;
    for (const TensorRole role : roles) {
      const auto info = infos_.find(role);
      if (info == infos_.end()) return std::vector<at::Tensor>(roles.size());
      infos.push_back(info->second);
      rows += info->second->shape.front();
    }
    std::vector<int64_t> shape = infos.front()->shape;
    shape.front() = rows;
    const at::Tensor memory = at::empty(shape, options_);
    std::vector<at::Tensor> tensors;
    int64_t row = 0;
    for (const TensorInfo* info : infos) {
      tensors.push_back(memory.narrow(0, row, info->shape.front()));
      Fill(folder_.tensors().tensors().at(info->name), tensors.back());
      row += info->shape.front();
    }
    return tensors;
  }

 private:
  const ModelFolder& folder_;
  const at::TensorOptions options_;
  std::map<TensorRole, const TensorInfo*> infos_;
};

}  // namespace

at::ScalarType TorchType(DType dtype) {
  return dtype == DType::kF32 ? at::kFloat : dtype == DType::kF16 ? at::kHalf : at::kBFloat16;
}

ModelFolder::ModelFolder(std::string path, ModelConfig config, nlohmann::ordered_json config_json,
                         std::vector<TensorInfo> table, SafetensorsFolder tensors)
    : path_(std::move(path)),
      config_(std::move(config)),
      config_json_(std::move(config_json)),
      table_(std::move(table)),
      tensors_(std::move(tensors)) {}

absl::StatusOr<std::shared_ptr<const ModelFolder>> ModelFolder::Open(const std::string& folder) {
  ASSIGN_OR_RETURN(nlohmann::ordered_json json, ReadConfig(folder));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(json);
  if (!config.ok()) return Annotate(config.status(), folder);
  ASSIGN_OR_RETURN(SafetensorsFolder tensors, SafetensorsFolder::Open(folder));
  // The tensors are counted before the table is made: a hostile number of layers costs nothing.
  if (config->num_layers > static_cast<int64_t>(tensors.tensors().size())) {
    return absl::InvalidArgumentError(StrCat(folder, ": config.json: \"num_hidden_layers\" is ",
                                             config->num_layers, ": there are only ",
                                             tensors.tensors().size(), " tensors"));
  }
  std::vector<TensorInfo> table = TensorTable(*config);
  const absl::Status checked = CheckTensors(*config, table, tensors.tensors());
  if (!checked.ok()) return Annotate(checked, folder);
  if (config->dtype.empty()) {
    const DType dtype = tensors.tensors().at(table.front().name).dtype;
    config->dtype = dtype == DType::kF32   ? "float32"
                    : dtype == DType::kF16 ? "float16"
                                           : "bfloat16";
  }
  return std::shared_ptr<const ModelFolder>(new ModelFolder(
      folder, *std::move(config), std::move(json), std::move(table), std::move(tensors)));
}

absl::StatusOr<at::Tensor> LoadTensor(const TensorView& view, const Device& device) {
  return GuardTorch([&] {
    const at::Tensor tensor = at::empty(
        view.shape, at::TensorOptions().device(TorchDevice(device)).dtype(ComputeType(device)));
    Fill(view, tensor);
    return tensor;
  });
}

absl::StatusOr<LayerWeights> LoadLayer(const ModelFolder& folder, int64_t layer,
                                       const Device& device) {
  if (layer < 0 || layer >= folder.config().num_layers) {
    return absl::InvalidArgumentError(StrCat("layer ", layer,
                                             " does not exist: the model "
                                             "has ",
                                             folder.config().num_layers));
  }
  return GuardTorch([&] {
    using Role = TensorRole;
    const LayerLoader loader(folder, layer, device);
    const auto weights = loader.LoadBehindOneAnother({Role::kQuery, Role::kKey, Role::kValue});
    const auto biases =
        loader.LoadBehindOneAnother({Role::kQueryBias, Role::kKeyBias, Role::kValueBias});
    return LayerWeights{
        .input_norm = loader.Load(Role::kInputNorm),
        .post_attention_norm = loader.Load(Role::kPostAttentionNorm),
        .pre_ffn_norm = loader.Load(Role::kPreFfnNorm),
        .post_ffn_norm = loader.Load(Role::kPostFfnNorm),
        .query_norm = loader.Load(Role::kQueryNorm),
        .key_norm = loader.Load(Role::kKeyNorm),
        .query = {weights[0], biases[0]},
        .key = {weights[1], biases[1]},
        .value = {weights[2], biases[2]},
        .output = loader.Load(Role::kOutput, Role::kOutputBias),
        .gate = loader.Load(Role::kGate, Role::kGateBias),
        .up = loader.Load(Role::kUp, Role::kUpBias),
        .down = loader.Load(Role::kDown, Role::kDownBias),
    };
  });
}

absl::StatusOr<OuterWeights> LoadOuter(const ModelFolder& folder, const Device& device) {
  return GuardTorch([&] {
    const LayerLoader loader(folder, -1, device);
    OuterWeights outer{.embedding = loader.Load(TensorRole::kEmbedding),
                       .final_norm = loader.Load(TensorRole::kFinalNorm),
                       .head = loader.Load(TensorRole::kHead)};
    if (!outer.head.defined()) outer.head = outer.embedding;
    return outer;
  });
}

}  // namespace secateur
