#include "server/evaluate/verify.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "server/base/status_macros.h"
#include "server/evaluate/compare_weights.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

constexpr int64_t kLogitPositions = 64;  // the last ones of the sample
constexpr int64_t kLogitRows = 16;       // at once: [16, vocabulary] is 17 MB for 262,144 tokens

// The largest difference and the largest magnitude it is measured by.
struct Difference {
  double error = 0;
  double magnitude = 0;

  double relative() const {
    if (error == 0) return 0;
    return magnitude == 0 ? std::numeric_limits<double>::infinity() : error / magnitude;
  }
};

double LargestMagnitude(const at::Tensor& values) {
  return values.abs().max().to(at::kDouble).item<double>();  // NaN if there is one
}

Difference Compare(const at::Tensor& expert, const at::Tensor& reference) {
  const at::Tensor wanted = reference.to(at::kFloat);
  return {LargestMagnitude(expert.to(at::kFloat) - wanted), LargestMagnitude(wanted)};
}

absl::Status CheckDifference(const Difference& difference, double tolerance,
                             const std::string& where) {
  if (difference.error <= tolerance * difference.magnitude) return absl::OkStatus();  // NaN: no
  return absl::DataLossError(StrCat(where, ": the expert differs from its reference by ",
                                    difference.error, "; ", tolerance, " x the largest value ",
                                    difference.magnitude, " is allowed"));
}

absl::Status CheckRows(const std::vector<int32_t>& rows, const ModelConfig& base,
                       const ModelConfig& expert) {
  const auto outside = std::find_if(rows.begin(), rows.end(), [&](int32_t row) {
    return row < 0 || row >= base.vocabulary_size;
  });
  if (outside != rows.end()) {
    return absl::InvalidArgumentError(StrCat("the mask keeps row ", *outside,
                                             " of the vocabulary; the base model has ",
                                             base.vocabulary_size));
  }
  const int64_t wanted = rows.empty() ? base.vocabulary_size : static_cast<int64_t>(rows.size());
  if (expert.vocabulary_size == wanted) return absl::OkStatus();
  return absl::DataLossError(StrCat("the expert's vocabulary has ", expert.vocabulary_size,
                                    " rows; its mask makes ", wanted));
}

absl::Status CheckMask(const Cut& cut, const ModelConfig& base, const ModelConfig& expert) {
  const Mask& mask = cut.mask;
  RETURN_IF_ERROR(CheckRows(mask.vocabulary, base, expert));
  if (static_cast<int64_t>(mask.kept.size()) != base.num_layers) {
    return absl::InvalidArgumentError(
        StrCat("the mask has ", mask.kept.size(), " layers; the base model has ", base.num_layers));
  }
  if (!mask.attention.empty() && mask.attention.size() != mask.kept.size()) {
    return absl::InvalidArgumentError(StrCat("the mask has attention of ", mask.attention.size(),
                                             " layers; the base model has ", base.num_layers));
  }
  const AttentionHeads heads = HeadsOf(base, cut);
  if (HeadsOf(expert) != heads) {
    return absl::DataLossError(StrCat("the expert has ", expert.num_heads, " heads and ",
                                      expert.num_kv_heads, " KV heads of ", expert.head_dim,
                                      " channels; its mask makes ", heads.heads, " and ",
                                      heads.kv_heads, " of ", heads.head_dim));
  }
  for (size_t layer = 0; layer < mask.kept.size(); ++layer) {
    const std::vector<int32_t>& kept = mask.kept[layer];
    const int64_t width =
        cut.shape == Shape::kMasked ? base.intermediate_size : static_cast<int64_t>(kept.size());
    if (width != expert.intermediate_size) {
      return absl::DataLossError(StrCat("layer ", layer, ": the expert has ",
                                        expert.intermediate_size, " neurons; its mask makes ",
                                        width));
    }
    const auto outside = std::find_if(kept.begin(), kept.end(), [&](int32_t channel) {
      return channel < 0 || channel >= base.intermediate_size;
    });
    if (outside != kept.end()) {
      return absl::InvalidArgumentError(StrCat("the mask of layer ", layer, " keeps channel ",
                                               *outside, "; the base model has ",
                                               base.intermediate_size));
    }
  }
  return absl::OkStatus();
}

nlohmann::ordered_json ConfigOf(const ModelFolder& base, const ModelFolder& expert,
                                const Cut& cut) {
  nlohmann::ordered_json config = base.config_json();
  config["intermediate_size"] = expert.config().intermediate_size;
  if (expert.config().vocabulary_size != base.config().vocabulary_size) {
    config["vocab_size"] = expert.config().vocabulary_size;
  }
  const AttentionHeads heads = HeadsOf(base.config(), cut);
  if (heads != HeadsOf(base.config())) {
    config["num_attention_heads"] = heads.heads;
    config["num_key_value_heads"] = heads.kv_heads;
    config["head_dim"] = heads.head_dim;
  }
  if (WithAddedTensors(base.config(), cut).mlp_bias) config["mlp_bias"] = true;
  return config;
}

double MeanNats(const std::vector<double>& nll) {
  if (nll.empty()) return 0;
  return std::accumulate(nll.begin(), nll.end(), 0.0) / static_cast<double>(nll.size());
}

// The two residual streams and what they are computed with.
class Verifier {
 public:
  Verifier(const Transformer& base, const Cut& cut, const ModelFolder& expert,
           const PackedBatch& sample, const VerifyOptions& options)
      : base_(base),
        cut_(cut),
        expert_(expert),
        sample_(sample),
        options_(options),
        table_(TensorTable(WithAddedTensors(base.config(), cut))) {}

  absl::Status Start() {
    RETURN_IF_ERROR(MatchVocabulary());
    ASSIGN_OR_RETURN(base_runner_, LayerRunner::Create(base_.config(), base_.device(), reference_));
    ASSIGN_OR_RETURN(expert_runner_,
                     LayerRunner::Create(expert_.config(), base_.device(), sample_));
    ASSIGN_OR_RETURN(base_hidden_, base_runner_->Embed(base_.outer()));
    ASSIGN_OR_RETURN(expert_hidden_, expert_runner_->Embed(expert_outer_));
    found_.tokens = sample_.tokens();
    return absl::OkStatus();
  }

  absl::Status Layer(int64_t layer) {
    const std::vector<int32_t>& channels = cut_.mask.kept[static_cast<size_t>(layer)];
    LayerWeights reference = base_.layer(layer);
    ASSIGN_OR_RETURN(const LayerWeights found, LoadLayer(expert_, layer, base_.device()));
    ASSIGN_OR_RETURN(const ReplacedTensors replaced, Replaced(layer));
    KeptChannels kept;
    const absl::Status equal = GuardTorch([&] {
      kept = MakeKeptChannels(channels, base_.config().intermediate_size, reference.up.weight);
      const absl::Status compared =
          CompareLayerWeights(table_, layer, found, reference, cut_, replaced);
      ZeroAttention(base_.folder().table(), layer, cut_.mask, reference);
      Take(replaced, kept, layer, reference);
      return compared;
    });
    RETURN_IF_ERROR(equal);
    ASSIGN_OR_RETURN(base_hidden_,
                     base_runner_->Forward(layer, reference, base_hidden_, nullptr, kept.factors));
    ASSIGN_OR_RETURN(expert_hidden_, expert_runner_->Forward(layer, found, expert_hidden_));
    return GuardTorch([&] {
      const Difference difference = Compare(expert_hidden_, base_hidden_);
      found_.max_layer_error = std::max(found_.max_layer_error, difference.relative());
      return CheckDifference(difference, options_.tolerance, StrCat("layer ", layer));
    });
  }

  absl::StatusOr<Verification> Finish() {
    ASSIGN_OR_RETURN(base_hidden_, base_runner_->FinalNorm(base_.outer(), base_hidden_));
    ASSIGN_OR_RETURN(expert_hidden_, expert_runner_->FinalNorm(expert_outer_, expert_hidden_));
    RETURN_IF_ERROR(CompareLogits());
    ASSIGN_OR_RETURN(const std::vector<double> expert,
                     TokenNll(expert_.config(), expert_outer_, expert_hidden_, sample_));
    found_.expert_nats_per_token = MeanNats(expert);
    return found_;
  }

 private:
  // Where rows were cut: the expert's own embedding and head, of the base's head the same rows, and
  // the sample as the base numbers it. Else the base's are the expert's, byte for byte.
  absl::Status MatchVocabulary() {
    reference_ = sample_;
    reference_outer_ = expert_outer_ = base_.outer();
    const std::vector<int32_t>& rows = cut_.mask.vocabulary;
    if (rows.empty()) return absl::OkStatus();
    for (int32_t& id : reference_.ids) {
      if (id < 0 || id >= static_cast<int64_t>(rows.size())) {
        return absl::InvalidArgumentError(StrCat(
            "the sample has the id ", id, "; the expert's vocabulary has ", rows.size(), " rows"));
      }
      id = rows[static_cast<size_t>(id)];
    }
    ASSIGN_OR_RETURN(expert_outer_, LoadOuter(expert_, base_.device()));
    return GuardTorch([&] {
      const at::Tensor index = at::tensor(rows, at::kInt).to(base_.outer().head.device());
      reference_outer_.head = base_.outer().head.index_select(0, index);
      return absl::OkStatus();
    });
  }

  static absl::StatusOr<at::Tensor> Logits(const OuterWeights& outer, const at::Tensor& hidden) {
    return GuardTorch([&] { return at::linear(hidden, outer.head).to(at::kFloat); });
  }

  // The layer's tensors that are not the base's.
  absl::StatusOr<ReplacedTensors> Replaced(int64_t layer) const {
    ReplacedTensors tensors;
    if (cut_.replaced == nullptr) return tensors;
    for (const TensorInfo& info : table_) {
      const TensorView* view = info.layer == layer ? cut_.replaced->Find(info.name) : nullptr;
      if (view == nullptr) continue;
      ASSIGN_OR_RETURN(tensors[info.role], LoadTensor(*view, base_.device()));
    }
    return tensors;
  }

  // o_proj, down_proj and its bias; those of gate and up come as zeros, which change nothing.
  void Take(const ReplacedTensors& replaced, const KeptChannels& kept, int64_t layer,
            LayerWeights& reference) const {
    const auto output = replaced.find(TensorRole::kOutput);
    if (output != replaced.end()) {
      const int64_t columns = reference.output.weight.size(1);
      const auto& attention = cut_.mask.attention;
      reference.output.weight =
          attention.empty()
              ? output->second
              : InBaseShape(output->second,
                            MakeKeptChannels(attention[static_cast<size_t>(layer)].output, columns,
                                             reference.output.weight));
    }
    const auto down = replaced.find(TensorRole::kDown);
    if (down != replaced.end()) reference.down.weight = InBaseShape(down->second, kept);
    const auto bias = replaced.find(TensorRole::kDownBias);
    if (bias != replaced.end()) reference.down.bias = bias->second;
  }

  at::Tensor InBaseShape(const at::Tensor& columns, const KeptChannels& kept) const {
    if (cut_.shape == Shape::kMasked) return columns;
    const at::Tensor full = at::zeros({columns.size(0), kept.factors.size(0)}, columns.options());
    return full.index_copy(1, kept.index, columns);
  }

  absl::Status CompareLogits() {
    const int64_t tokens = sample_.tokens();
    Difference largest;
    for (int64_t row = std::max<int64_t>(0, tokens - kLogitPositions); row < tokens;
         row += kLogitRows) {
      const int64_t end = std::min(row + kLogitRows, tokens);
      ASSIGN_OR_RETURN(const at::Tensor reference,
                       Logits(reference_outer_, base_hidden_.slice(0, row, end)));
      ASSIGN_OR_RETURN(const at::Tensor expert,
                       Logits(expert_outer_, expert_hidden_.slice(0, row, end)));
      RETURN_IF_ERROR(GuardTorch([&] {
        const Difference difference = Compare(expert, reference);
        largest.error = std::max(largest.error, difference.error);
        largest.magnitude = std::max(largest.magnitude, difference.magnitude);
        return CheckDifference(difference, options_.tolerance,
                               StrCat("logits of positions ", row, " to ", end - 1));
      }));
    }
    found_.max_logit_error = largest.relative();
    return absl::OkStatus();
  }

  const Transformer& base_;
  const Cut& cut_;
  const ModelFolder& expert_;
  const PackedBatch& sample_;
  const VerifyOptions& options_;
  const std::vector<TensorInfo> table_;  // of the expert, in the base's shapes
  PackedBatch reference_;                // the sample in the base's numbers
  OuterWeights reference_outer_;         // the base's, its head on the expert's rows
  OuterWeights expert_outer_;
  std::optional<LayerRunner> base_runner_;
  std::optional<LayerRunner> expert_runner_;
  at::Tensor base_hidden_;
  at::Tensor expert_hidden_;
  Verification found_;
};

}  // namespace

absl::StatusOr<Verification> VerifyExpert(const Transformer& base, const Cut& cut,
                                          const ModelFolder& expert, const PackedBatch& sample,
                                          const VerifyOptions& options, RunContext& context) {
  const int64_t layers = base.config().num_layers;
  RETURN_IF_ERROR(CompareConfigs(
      options.config != nullptr ? *options.config : ConfigOf(base.folder(), expert, cut), expert));
  RETURN_IF_ERROR(CheckMask(cut, base.config(), expert.config()));
  RETURN_IF_ERROR(CompareOuterTensors(base.folder(), expert, cut.mask.vocabulary));
  Verifier verifier(base, cut, expert, sample, options);
  RETURN_IF_ERROR(verifier.Start());
  for (int64_t layer = 0; layer < layers; ++layer) {
    RETURN_IF_ERROR(context.CheckCancelled());
    RETURN_IF_ERROR(verifier.Layer(layer));
    context.Report({"verify", layer + 1, layers, "layers"});
  }
  return verifier.Finish();
}

}  // namespace secateur
