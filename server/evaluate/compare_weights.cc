#include "server/evaluate/compare_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "server/base/status_macros.h"
#include "server/mask/kept_units.h"

namespace secateur {
namespace {

std::string Shown(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace)
      .substr(0, 200);
}

absl::Status CompareBytes(const std::string& name, const TensorView& expert,
                          const TensorView& base) {
  if (expert.dtype != base.dtype || expert.shape != base.shape) {
    return absl::DataLossError(
        StrCat("tensor ", name, ": the expert's type or shape is not the base's"));
  }
  if (expert.bytes == base.bytes) return absl::OkStatus();
  const auto differ = std::mismatch(expert.bytes.begin(), expert.bytes.end(), base.bytes.begin());
  return absl::DataLossError(
      StrCat("tensor ", name, ": byte ", differ.first - expert.bytes.begin(), " of the expert is ",
             static_cast<int>(static_cast<uint8_t>(*differ.first)), "; the base has ",
             static_cast<int>(static_cast<uint8_t>(*differ.second))));
}

// Row i of the expert is row rows[i] of the base.
absl::Status CompareRows(const std::string& name, const TensorView& expert, const TensorView& base,
                         const std::vector<int32_t>& rows) {
  std::vector<int64_t> shape = base.shape;
  shape[0] = static_cast<int64_t>(rows.size());
  if (expert.dtype != base.dtype || expert.shape != shape) {
    return absl::DataLossError(
        StrCat("tensor ", name,
               ": the expert's type or shape is not the one that its mask makes of the base's"));
  }
  const size_t row_bytes = base.bytes.size() / static_cast<size_t>(base.shape[0]);
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::string_view found = expert.bytes.substr(i * row_bytes, row_bytes);
    if (found == base.bytes.substr(static_cast<size_t>(rows[i]) * row_bytes, row_bytes)) continue;
    return absl::DataLossError(StrCat("tensor ", name, ": row ", i, " of the expert is not row ",
                                      rows[i], " of the base"));
  }
  return absl::OkStatus();
}

const at::Tensor& TensorOf(const LayerWeights& weights, TensorRole role) {
  switch (role) {
    case TensorRole::kInputNorm:
      return weights.input_norm;
    case TensorRole::kPostAttentionNorm:
      return weights.post_attention_norm;
    case TensorRole::kPreFfnNorm:
      return weights.pre_ffn_norm;
    case TensorRole::kPostFfnNorm:
      return weights.post_ffn_norm;
    case TensorRole::kQuery:
      return weights.query.weight;
    case TensorRole::kKey:
      return weights.key.weight;
    case TensorRole::kValue:
      return weights.value.weight;
    case TensorRole::kOutput:
      return weights.output.weight;
    case TensorRole::kQueryNorm:
      return weights.query_norm;
    case TensorRole::kKeyNorm:
      return weights.key_norm;
    case TensorRole::kQueryBias:
      return weights.query.bias;
    case TensorRole::kKeyBias:
      return weights.key.bias;
    case TensorRole::kValueBias:
      return weights.value.bias;
    case TensorRole::kOutputBias:
      return weights.output.bias;
    case TensorRole::kGate:
      return weights.gate.weight;
    case TensorRole::kUp:
      return weights.up.weight;
    case TensorRole::kDown:
      return weights.down.weight;
    case TensorRole::kGateBias:
      return weights.gate.bias;
    case TensorRole::kUpBias:
      return weights.up.bias;
    case TensorRole::kDownBias:
      return weights.down.bias;
    case TensorRole::kEmbedding:
    case TensorRole::kFinalNorm:
    case TensorRole::kHead:
      break;  // not in a layer
  }
  static const at::Tensor none;
  return none;
}

at::Tensor CutLike(const TensorInfo& info, const at::Tensor& base, const Mask& mask, Shape shape) {
  const KeptUnits units = FindKeptUnits(info, mask);
  if (units.axis < 0) return base;
  const auto axis = static_cast<size_t>(units.axis);
  const KeptChannels kept = MakeKeptChannels(*units.kept, info.shape[axis], base);
  if (shape == Shape::kUniform) return base.index_select(units.axis, kept.index);
  std::vector<int64_t> along(info.axes.size(), 1);
  along[axis] = -1;
  return at::where(kept.factors.view(along) != 0, base, 0.0);
}

absl::Status CompareValues(const std::string& name, const at::Tensor& expert,
                           const at::Tensor& wanted) {
  if (!expert.defined() || !wanted.defined() || expert.sizes() != wanted.sizes()) {
    return absl::DataLossError(StrCat("tensor ", name,
                                      ": the expert's shape is not the one that "
                                      "its mask makes of the base's"));
  }
  if (expert.equal(wanted)) return absl::OkStatus();
  const at::Tensor place = (expert != wanted).flatten().to(at::kInt).argmax();
  const auto at_place = [&place](const at::Tensor& values) {
    return values.flatten().index_select(0, place.reshape({1})).to(at::kDouble).item<double>();
  };
  return absl::DataLossError(StrCat("tensor ", name, ": element ", place.item<int64_t>(),
                                    " of the expert is ", at_place(expert), "; its reference is ",
                                    at_place(wanted)));
}

}  // namespace

absl::Status CompareConfigs(const nlohmann::ordered_json& wanted, const ModelFolder& expert) {
  const nlohmann::ordered_json& found = expert.config_json();
  for (const auto& [key, value] : wanted.items()) {
    const auto at = found.find(key);
    if (at != found.end() && *at == value) continue;
    return absl::DataLossError(StrCat("config.json of the expert: ", key, " is ",
                                      at == found.end() ? "missing" : Shown(*at), "; it should be ",
                                      Shown(value)));
  }
  if (found.size() == wanted.size()) return absl::OkStatus();
  return absl::DataLossError(StrCat("config.json of the expert has ", found.size(),
                                    " keys; it should have ", wanted.size()));
}

absl::Status CompareOuterTensors(const ModelFolder& base, const ModelFolder& expert,
                                 const std::vector<int32_t>& rows) {
  for (const TensorInfo& info : base.table()) {
    if (info.layer >= 0) continue;
    ASSIGN_OR_RETURN(const TensorView wanted, base.tensors().Find(info.name));
    ASSIGN_OR_RETURN(const TensorView found, expert.tensors().Find(info.name));
    const bool is_cut = !rows.empty() && info.axes[0] == Axis::kVocabulary;
    RETURN_IF_ERROR(is_cut ? CompareRows(info.name, found, wanted, rows)
                           : CompareBytes(info.name, found, wanted));
  }
  return absl::OkStatus();
}

KeptChannels MakeKeptChannels(const std::vector<int32_t>& channels, int64_t all,
                              const at::Tensor& like) {
  at::Tensor index = at::empty({static_cast<int64_t>(channels.size())}, at::kLong);
  std::copy(channels.begin(), channels.end(), index.data_ptr<int64_t>());
  index = index.to(like.device());
  const at::Tensor factors = at::zeros({all}, like.options());
  return {index, factors.index_fill(0, index, 1)};
}

absl::Status CompareLayerWeights(const std::vector<TensorInfo>& table, int64_t layer,
                                 const LayerWeights& expert, const LayerWeights& base,
                                 const Cut& cut, const ReplacedTensors& replaced) {
  for (const TensorInfo& info : table) {
    if (info.layer != layer) continue;
    const auto instead = replaced.find(info.role);
    const at::Tensor wanted = instead != replaced.end()
                                  ? instead->second
                                  : CutLike(info, TensorOf(base, info.role), cut.mask, cut.shape);
    RETURN_IF_ERROR(CompareValues(info.name, TensorOf(expert, info.role), wanted));
  }
  return absl::OkStatus();
}

void ZeroAttention(const std::vector<TensorInfo>& base_table, int64_t layer, const Mask& mask,
                   LayerWeights& weights) {
  if (mask.attention.empty()) return;
  const std::pair<TensorRole, at::Tensor*> tensors[] = {
      {TensorRole::kQuery, &weights.query.weight},   {TensorRole::kQueryBias, &weights.query.bias},
      {TensorRole::kKey, &weights.key.weight},       {TensorRole::kKeyBias, &weights.key.bias},
      {TensorRole::kValue, &weights.value.weight},   {TensorRole::kValueBias, &weights.value.bias},
      {TensorRole::kOutput, &weights.output.weight},
  };
  for (const TensorInfo& info : base_table) {
    if (info.layer != layer) continue;
    for (const auto& [role, tensor] : tensors) {
      if (role == info.role) *tensor = CutLike(info, *tensor, mask, Shape::kMasked);
    }
  }
}

}  // namespace secateur
