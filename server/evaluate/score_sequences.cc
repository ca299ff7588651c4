#include "server/evaluate/score_sequences.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/base/status_macros.h"

namespace secateur {
namespace {

constexpr int64_t kHiddenBytes = int64_t{64} << 20;

}  // namespace

absl::Status SequenceScorer::Add(std::vector<int32_t> ids, int64_t start, Done done) {
  if (ids.empty() || start < 1) {
    return absl::InvalidArgumentError(StrCat("a sequence of ", ids.size(), " tokens cannot be ",
                                             "scored from token ", start, " on"));
  }
  const size_t filled = filling_.batch.ids.size();
  if (filled > 0 && static_cast<int64_t>(filled + ids.size()) > options_.block_tokens) {
    RETURN_IF_ERROR(Close());
  }
  filling_.batch.ids.insert(filling_.batch.ids.end(), ids.begin(), ids.end());
  filling_.batch.offsets.push_back(filling_.batch.tokens());
  filling_.starts.push_back(start);
  filling_.done.push_back(std::move(done));
  return absl::OkStatus();
}

absl::Status SequenceScorer::Finish() {
  RETURN_IF_ERROR(Close());
  return RunGroup();
}

absl::Status SequenceScorer::Close() {
  if (filling_.batch.ids.empty()) return absl::OkStatus();
  const int64_t bytes =
      filling_.batch.tokens() * model_.config.hidden_size * static_cast<int64_t>(sizeof(float));
  const int64_t limit = model_.resident ? 0 : kHiddenBytes;
  if (group_bytes_ + bytes > limit) RETURN_IF_ERROR(RunGroup());
  group_.push_back(std::exchange(filling_, {}));
  group_bytes_ += bytes;
  return group_bytes_ >= limit ? RunGroup() : absl::OkStatus();
}

absl::Status SequenceScorer::RunGroup() {
  if (group_.empty()) return absl::OkStatus();
  for (Block& block : group_) {
    // They take turns: one working memory is enough.
    const LayerRunner* workspace = group_.front().runner ? &*group_.front().runner : nullptr;
    ASSIGN_OR_RETURN(block.runner,
                     LayerRunner::Create(model_.config, model_.device, block.batch, workspace));
  }
  RETURN_IF_ERROR(ForEachBlock([this](Block& block) {
    ASSIGN_OR_RETURN(block.hidden, block.runner->Embed(model_.outer));
    return absl::OkStatus();
  }));
  for (int64_t layer = 0; layer < model_.config.num_layers; ++layer) {
    ASSIGN_OR_RETURN(const LayerWeights weights, model_.layer(layer));
    RETURN_IF_ERROR(ForEachBlock([&, this](Block& block) {
      ASSIGN_OR_RETURN(block.hidden, block.runner->Forward(layer, weights, block.hidden));
      return absl::OkStatus();
    }));
  }
  RETURN_IF_ERROR(ForEachBlock([this](Block& block) {
    ASSIGN_OR_RETURN(const at::Tensor hidden, block.runner->FinalNorm(model_.outer, block.hidden));
    ASSIGN_OR_RETURN(block.nll,
                     TokenNll(model_.config, model_.outer, hidden, block.batch, block.starts));
    return absl::OkStatus();
  }));
  for (const Block& block : group_) RETURN_IF_ERROR(HandOut(block));
  group_.clear();
  group_bytes_ = 0;
  return absl::OkStatus();
}

absl::Status SequenceScorer::ForEachBlock(const std::function<absl::Status(Block&)>& work) {
  const auto all = [&]() -> absl::Status {
    for (Block& block : group_) {
      RETURN_IF_ERROR(context_.CheckCancelled());
      RETURN_IF_ERROR(work(block));
    }
    return absl::OkStatus();
  };
  return options_.turn ? options_.turn(all) : all();
}

absl::Status SequenceScorer::HandOut(const Block& block) {
  auto next = block.nll.begin();
  for (size_t i = 0; i < block.starts.size(); ++i) {
    const int64_t length = block.batch.offsets[i + 1] - block.batch.offsets[i];
    const int64_t scored = std::max<int64_t>(length - block.starts[i], 0);
    double nats = 0;
    for (int64_t token = 0; token < scored; ++token) nats += *next++;
    if (!std::isfinite(nats)) {
      return absl::DataLossError(StrCat("the model predicts ", scored, " tokens of the text with ",
                                        nats,
                                        " nats; its weights or its computation are not finite"));
    }
    RETURN_IF_ERROR(block.done[i](nats));
  }
  return absl::OkStatus();
}

}  // namespace secateur
