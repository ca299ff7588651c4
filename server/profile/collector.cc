#include "server/profile/collector.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/model/layers.h"
#include "server/model/torch_guard.h"
#include "server/profile/attention_scorer.h"
#include "server/profile/document_half.h"
#include "server/profile/group_scorer.h"
#include "server/profile/ranked_document.h"
#include "server/profile/score_sums.h"
#include "server/profile/scorer.h"

namespace secateur {
namespace {

// Documents whose scores are held at once: bounds the memory of blocks of many short documents.
constexpr size_t kDocumentGroup = 32;
// Channels that a thread adds for all documents in one go.
constexpr int64_t kAddChannels = 256;

struct ScoredDocument {
  DocumentScores scores;
  RankedDocument ranked;
  absl::Status status;
};

std::vector<float> Narrow(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

ScoredDocument Score(const NeuronNorms& norms, const TokenSums& sums, int64_t tokens,
                     bool in_half) {
  const NeuronScores scores = ScoreDocument(norms, sums, tokens);
  ScoredDocument document;
  document.scores = {.relative = Narrow(scores.relative),
                     .paper = Narrow(scores.paper),
                     .activation = Narrow(scores.activation),
                     .peak = Narrow(scores.peak),
                     .in_half = in_half};
  absl::StatusOr<RankedDocument> ranked = RankDocument(document.scores);
  document.status = ranked.status();
  if (ranked.ok()) document.ranked = *std::move(ranked);
  return document;
}

std::vector<NeuronNorms> NormsOf(const Transformer& model) {
  const ModelConfig& config = model.config();
  std::vector<NeuronNorms> norms;
  for (int64_t l = 0; l < config.num_layers; ++l) {
    const LayerWeights& layer = model.layer(l);
    norms.push_back(MeasureNeurons(layer.down.weight, PostNormGain(config, layer.post_ffn_norm)));
  }
  return norms;
}

}  // namespace

class ProfileCollector::Tap final : public ActivationTap {
 public:
  // Without `attention` there are no statistics of it but the scores of KV head groups.
  Tap(Profile profile, std::vector<NeuronNorms> norms, std::optional<AttentionScorer> attention,
      const Transformer& model)
      : profile_(std::move(profile)),
        norms_(std::move(norms)),
        attention_(std::move(attention)),
        model_(model) {}

  const Profile& profile() const { return profile_; }

  // Before a block's forward pass. The collector is spent unless Finish follows.
  absl::Status Begin(const PackedBatch& block) {
    if (spent_) {
      return absl::FailedPreconditionError(
          "the profile collector cannot go on after an error: make a new one");
    }
    spent_ = true;
    in_half_.clear();
    for (size_t i = 0; i + 1 < block.offsets.size(); ++i) {
      const auto begin = block.ids.begin() + block.offsets[i];
      in_half_.push_back(IsInHalf({begin, begin + (block.offsets[i + 1] - block.offsets[i])}));
    }
    if (block.sequences() <= kMaxDocuments - profile_.documents) return absl::OkStatus();
    return absl::OutOfRangeError(StrCat("a profile of ", profile_.documents, " documents takes no ",
                                        block.sequences(), " more; at most ", kMaxDocuments,
                                        " fit"));
  }

  // After every layer has seen the block.
  void Finish(const PackedBatch& block) {
    profile_.documents += block.sequences();
    profile_.tokens += block.tokens();
    profile_.half_documents += std::count(in_half_.begin(), in_half_.end(), true);
    spent_ = false;
  }

  absl::Status OnAttention(const PackedBatch& batch,
                           const AttentionActivation& activation) override {
    const absl::Status status = GuardTorch([&]() -> absl::Status {
      if (attention_) RETURN_IF_ERROR(AddAttention(batch.offsets, activation));
      return AddGroups(batch.offsets, activation);
    });
    return Annotate(status, StrCat("layer ", activation.layer));
  }

  absl::Status OnFfn(const PackedBatch& batch, const FfnActivation& activation) override {
    const absl::Status status = GuardTorch([&] { return AddBlock(batch.offsets, activation); });
    return Annotate(status, StrCat("layer ", activation.layer));
  }

 private:
  absl::Status AddAttention(const std::vector<int64_t>& offsets,
                            const AttentionActivation& activation) {
    AttentionStatistics& statistics =
        profile_.attention.layers[static_cast<size_t>(activation.layer)];
    for (const AttentionScores& scores : attention_->Score(offsets, activation)) {
      RETURN_IF_ERROR(secateur::AddAttention(scores, statistics));
    }
    return absl::OkStatus();
  }

  absl::Status AddGroups(const std::vector<int64_t>& offsets,
                         const AttentionActivation& activation) {
    std::vector<uint64_t>& sums =
        profile_.layers[static_cast<size_t>(activation.layer)].group_score;
    if (sums.size() == 1) return absl::OkStatus();  // it cannot go
    ASSIGN_OR_RETURN(
        const std::vector<double> scores,
        ScoreGroups(model_.config(), model_.layer(activation.layer), offsets, activation));
    for (size_t group = 0; group < sums.size(); ++group) AddScore(scores[group], sums[group]);
    return absl::OkStatus();
  }

  absl::Status AddBlock(std::span<const int64_t> offsets, const FfnActivation& activation) {
    const bool post_norm = model_.config().post_norms;
    const std::vector<double> weights = TokenWeights(activation, post_norm);
    const std::vector<double> scales = TokenScales(activation, post_norm);
    for (size_t first = 0; first + 1 < offsets.size(); first += kDocumentGroup) {
      const size_t count = std::min(kDocumentGroup, offsets.size() - 1 - first);
      const std::span<const int64_t> group = offsets.subspan(first, count + 1);
      const std::vector<TokenSums> sums = SumDocuments(activation.neurons, weights, group, scales);
      RETURN_IF_ERROR(CheckFinite(sums, weights, group));
      RETURN_IF_ERROR(AddGroup(static_cast<size_t>(activation.layer), sums, first, group));
    }
    // Finite, since the weights of its tokens are.
    const at::Tensor largest =
        at::linalg_vector_norm(activation.residual, std::numeric_limits<double>::infinity());
    float& peak = profile_.layers[static_cast<size_t>(activation.layer)].residual_peak;
    peak = std::max(peak, largest.item<float>());
    return absl::OkStatus();
  }

  // Documents from `first` of the block on.
  absl::Status AddGroup(size_t layer, const std::vector<TokenSums>& sums, size_t first,
                        std::span<const int64_t> offsets) {
    std::vector<ScoredDocument> documents(sums.size());
    at::parallel_for(0, std::ssize(documents), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        documents[i] =
            Score(norms_[layer], sums[i], offsets[i + 1] - offsets[i], in_half_[first + i]);
      }
    });
    for (const ScoredDocument& document : documents) RETURN_IF_ERROR(document.status);
    LayerStatistics& statistics = profile_.layers[layer];
    const int64_t channels = profile_.intermediate_size();
    at::parallel_for(0, channels, kAddChannels, [&](int64_t begin, int64_t end) {
      for (const ScoredDocument& document : documents) {
        AddChannels(document.scores, document.ranked, begin, end, statistics);
      }
    });
    return absl::OkStatus();
  }

  // A bad activation spoils the residual stream, and that the weights of tokens: the activation is
  // what to name.
  static absl::Status CheckFinite(const std::vector<TokenSums>& sums,
                                  const std::vector<double>& weights,
                                  std::span<const int64_t> offsets) {
    for (const TokenSums& document : sums) {
      for (size_t k = 0; k < document.squared.size(); ++k) {
        if (std::isfinite(document.squared[k])) continue;
        return absl::DataLossError(StrCat("channel ", k, ": the sum of squared activations is ",
                                          document.squared[k], "; expected a finite number"));
      }
    }
    for (int64_t t = offsets.front(); t < offsets.back(); ++t) {
      if (std::isfinite(weights[static_cast<size_t>(t)])) continue;
      return absl::DataLossError(StrCat("token ", t,
                                        " of the block: the residual stream or the "
                                        "FFN's output is not finite"));
    }
    return absl::OkStatus();
  }

  Profile profile_;
  const std::vector<NeuronNorms> norms_;
  const std::optional<AttentionScorer> attention_;
  const Transformer& model_;
  std::vector<bool> in_half_;  // of each document of the block that runs
  bool spent_ = false;
};

absl::StatusOr<std::unique_ptr<ProfileCollector>> ProfileCollector::Create(
    const Transformer& model, const CollectorOptions& options) {
  const ModelConfig& config = model.config();
  ASSIGN_OR_RETURN(Profile profile, Profile::Empty(config.num_layers, config.intermediate_size,
                                                   config.num_kv_heads));
  ASSIGN_OR_RETURN(std::vector<NeuronNorms> norms, GuardTorch([&] { return NormsOf(model); }));
  std::optional<AttentionScorer> attention;
  if (options.attention) {
    const AttentionHeads heads{config.num_heads, config.num_kv_heads, config.head_dim};
    ASSIGN_OR_RETURN(profile.attention, AttentionProfile::Empty(config.num_layers, heads));
    RETURN_IF_ERROR(GuardTorch([&] {
      attention.emplace(model);
      return absl::OkStatus();
    }));
  }
  auto tap =
      std::make_unique<Tap>(std::move(profile), std::move(norms), std::move(attention), model);
  return std::unique_ptr<ProfileCollector>(new ProfileCollector(std::move(tap), model));
}

ProfileCollector::ProfileCollector(std::unique_ptr<Tap> tap, const Transformer& model)
    : model_(model), tap_(std::move(tap)) {}
ProfileCollector::~ProfileCollector() = default;

absl::Status ProfileCollector::Add(const PackedBatch& block, RunContext& context) {
  RETURN_IF_ERROR(tap_->Begin(block));
  RETURN_IF_ERROR(model_.Forward(block, context, tap_.get()).status());
  tap_->Finish(block);
  return absl::OkStatus();
}

const Profile& ProfileCollector::profile() const { return tap_->profile(); }

}  // namespace secateur
