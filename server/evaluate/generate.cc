#include "server/evaluate/generate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <utility>

#include "server/base/status_macros.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

constexpr int64_t kKeptBytes = int64_t{1} << 30;
constexpr size_t kRun = 4;

PackedBatch Pack(const TokenSequences& sequences) {
  PackedBatch batch{{}, {0}};
  for (const std::vector<int32_t>& ids : sequences) {
    batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
    batch.offsets.push_back(batch.tokens());
  }
  return batch;
}

absl::Status Turn(const DeviceTurn& turn, const std::function<absl::Status()>& work) {
  return turn ? turn(work) : work();
}

// The likeliest token behind each sequence of `batch`; `hidden` is behind the final norm.
absl::StatusOr<std::vector<int32_t>> LikeliestNext(const OuterWeights& outer,
                                                   const at::Tensor& hidden,
                                                   const PackedBatch& batch) {
  return GuardTorch([&]() -> absl::StatusOr<std::vector<int32_t>> {
    std::vector<int64_t> last;
    for (size_t i = 1; i < batch.offsets.size(); ++i) last.push_back(batch.offsets[i] - 1);
    const at::Tensor rows = hidden.index_select(0, at::tensor(last, at::kLong).to(hidden.device()));
    const at::Tensor logits = at::linear(rows, outer.head).to(at::kCPU, at::kFloat);
    if (!at::isfinite(logits).all().item<bool>()) {
      return absl::DataLossError(
          "a logit of the model is not finite; its weights or its computation are not");
    }
    std::vector<int32_t> next;
    for (int64_t row = 0; row < logits.size(0); ++row) {
      const float* values = logits.const_data_ptr<float>() + row * logits.size(1);
      next.push_back(
          static_cast<int32_t>(std::max_element(values, values + logits.size(1)) - values));
    }
    return next;
  });
}

// `batch`: what `cache` has not seen yet of each sequence.
absl::StatusOr<std::vector<int32_t>> Next(const LayeredModel& model, const PackedBatch& batch,
                                          KvCache& cache, const DeviceTurn& turn,
                                          RunContext& context) {
  ASSIGN_OR_RETURN(const LayerRunner runner,
                   LayerRunner::Create(model.config, model.device, batch, nullptr, &cache));
  at::Tensor hidden;
  RETURN_IF_ERROR(Turn(turn, [&] {
    ASSIGN_OR_RETURN(hidden, runner.Embed(model.outer));
    return absl::OkStatus();
  }));
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    RETURN_IF_ERROR(context.CheckCancelled());
    ASSIGN_OR_RETURN(const LayerWeights weights, model.layer(layer));
    RETURN_IF_ERROR(Turn(turn, [&] {
      ASSIGN_OR_RETURN(hidden, runner.Forward(layer, weights, hidden));
      return absl::OkStatus();
    }));
  }
  std::vector<int32_t> next;
  RETURN_IF_ERROR(Turn(turn, [&] {
    ASSIGN_OR_RETURN(hidden, runner.FinalNorm(model.outer, hidden));
    ASSIGN_OR_RETURN(next, LikeliestNext(model.outer, hidden, batch));
    return absl::OkStatus();
  }));
  cache.Finish(batch);
  return next;
}

}  // namespace

absl::StatusOr<TokenSequences> ContinueGreedily(const LayeredModel& model,
                                                const TokenSequences& prompts,
                                                const GenerateOptions& options,
                                                RunContext& context) {
  const LayeredModel kept = Kept(model, kKeptBytes);
  TokenSequences continuations(prompts.size());
  std::vector<bool> ended(prompts.size(), false);
  KvCache cache;
  TokenSequences unseen = prompts;  // by the cache
  for (int64_t step = 0; step < options.new_tokens; ++step) {
    if (std::find(ended.begin(), ended.end(), false) == ended.end()) break;
    ASSIGN_OR_RETURN(const std::vector<int32_t> next,
                     Next(kept, Pack(unseen), cache, options.turn, context));
    // Those that have ended go on, and nobody looks.
    for (size_t i = 0; i < next.size(); ++i) {
      unseen[i] = {next[i]};
      ended[i] = ended[i] || options.end_ids.contains(next[i]);
      if (!ended[i]) continuations[i].push_back(next[i]);
    }
    context.Report({"generate", step + 1, options.new_tokens, "tokens"});
  }
  return continuations;
}

double RepetitionRate(const TokenSequences& continuations) {
  int64_t runs = 0, repeated = 0;
  for (const std::vector<int32_t>& tokens : continuations) {
    std::set<std::array<int32_t, kRun>> seen;
    for (size_t at = 0; at + kRun <= tokens.size(); ++at) {
      std::array<int32_t, kRun> run;
      std::copy_n(tokens.begin() + static_cast<ptrdiff_t>(at), kRun, run.begin());
      ++runs;
      if (!seen.insert(run).second) ++repeated;
    }
  }
  return runs == 0 ? 0 : static_cast<double>(repeated) / static_cast<double>(runs);
}

}  // namespace secateur
