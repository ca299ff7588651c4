#include "server/evaluate/evaluate_corpus.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

constexpr int64_t kHiddenBytes = int64_t{64} << 20;

// `text` up to the end of its token number `max_tokens`.
absl::StatusOr<Document> Cut(const Tokenizer& tokenizer, const Document& document,
                             int64_t max_tokens) {
  ASSIGN_OR_RETURN(const Tokenizer::Encoding encoding, tokenizer.Encode(document.text));
  Document cut;
  cut.text = document.text;
  if (static_cast<int64_t>(encoding.ids.size()) <= max_tokens) return cut;
  size_t end = encoding.offsets[static_cast<size_t>(max_tokens) - 1].second;
  while (!IsUtf8Boundary(document.text, end)) ++end;
  cut.text.resize(end);
  return cut;
}

absl::Status CheckOptions(const EvaluateOptions& options, const ModelConfig& config) {
  if (options.max_tokens < 1 || options.max_tokens >= config.max_positions) {
    return absl::InvalidArgumentError(StrCat("max_tokens is ", options.max_tokens,
                                             "; this model allows 1 to ",
                                             config.max_positions - 1));
  }
  if (options.block_tokens < 1) {
    return absl::InvalidArgumentError(
        StrCat("block_tokens is ", options.block_tokens, "; it must be positive"));
  }
  return absl::OkStatus();
}

// Cuts and packs all documents and hands the blocks to `sink`, which adds to `sum`.
absl::StatusOr<BitsPerByte> Run(const ModelConfig& config, const Tokenizer& tokenizer,
                                const DocumentVisitor& documents, const EvaluateOptions& options,
                                RunContext& context, const Packer::Sink& sink,
                                const std::function<absl::Status()>& finish,
                                const BitsPerByte& sum) {
  RETURN_IF_ERROR(CheckOptions(options, config));
  // A cut text can have more tokens than it was cut to: a character comes along as a whole, and its
  // end joins differently. The packer must not cut a second time.
  const FramingSettings framing{std::min(config.max_positions, 2 * options.max_tokens + 64),
                                options.block_tokens};
  Packer packer(tokenizer, config.first_token_id, framing, [&](const TokenBlock& block) {
    RETURN_IF_ERROR(sink(block));
    context.Report({"evaluate", sum.documents, 0, "documents"});
    return absl::OkStatus();
  });
  const absl::Status read = documents([&](const Document& document) -> absl::Status {
    RETURN_IF_ERROR(context.CheckCancelled());
    ASSIGN_OR_RETURN(const Document cut, Cut(tokenizer, document, options.max_tokens));
    return packer.Add(cut);
  });
  RETURN_IF_ERROR(read);
  RETURN_IF_ERROR(packer.Finish());
  RETURN_IF_ERROR(finish());
  if (sum.documents == 0)
    return absl::InvalidArgumentError("there are no documents to evaluate on");
  context.Report({"evaluate", sum.documents, sum.documents, "documents"});
  return sum;
}

// Blocks that wait until they are worth reading all layers for.
class BlockGroup {
 public:
  BlockGroup(const StreamedModel& model, RunContext& context, BitsPerByte& sum)
      : model_(model), context_(context), sum_(sum) {}

  absl::Status Add(const TokenBlock& block) {
    const auto tokens = static_cast<int64_t>(block.ids.size());
    const int64_t bytes =
        tokens * model_.folder.config().hidden_size * static_cast<int64_t>(sizeof(float));
    if (bytes_ > 0 && bytes_ + bytes > kHiddenBytes) RETURN_IF_ERROR(Evaluate());
    passes_.push_back({block, PackedBatch{block.ids, block.offsets}, {}});
    bytes_ += bytes;
    return absl::OkStatus();
  }

  absl::Status Evaluate() {
    const ModelConfig& config = model_.folder.config();
    std::vector<LayerRunner> runners;
    for (Pass& pass : passes_) {
      ASSIGN_OR_RETURN(LayerRunner runner,
                       LayerRunner::Create(config, model_.device, pass.batch,
                                           runners.empty() ? nullptr : &runners[0]));
      ASSIGN_OR_RETURN(pass.hidden, runner.Embed(model_.outer));
      runners.push_back(std::move(runner));
    }
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      ASSIGN_OR_RETURN(const LayerWeights weights, LoadLayer(model_.folder, layer, model_.device));
      for (size_t i = 0; i < passes_.size(); ++i) {
        RETURN_IF_ERROR(context_.CheckCancelled());
        ASSIGN_OR_RETURN(passes_[i].hidden, runners[i].Forward(layer, weights, passes_[i].hidden));
      }
    }
    for (size_t i = 0; i < passes_.size(); ++i) {
      ASSIGN_OR_RETURN(const at::Tensor hidden,
                       runners[i].FinalNorm(model_.outer, passes_[i].hidden));
      ASSIGN_OR_RETURN(const std::vector<double> nll,
                       TokenNll(config, model_.outer, hidden, passes_[i].batch));
      RETURN_IF_ERROR(AddNll(nll, passes_[i].block, sum_));
    }
    passes_.clear();
    bytes_ = 0;
    return absl::OkStatus();
  }

 private:
  struct Pass {
    TokenBlock block;
    PackedBatch batch;
    at::Tensor hidden;
  };

  const StreamedModel model_;
  RunContext& context_;
  BitsPerByte& sum_;
  std::deque<Pass> passes_;  // stays where it is: runners refer to the batches
  int64_t bytes_ = 0;        // of all hidden states
};

}  // namespace

absl::StatusOr<BitsPerByte> EvaluateCorpus(const Transformer& model, const Tokenizer& tokenizer,
                                           const DocumentVisitor& documents,
                                           const EvaluateOptions& options, RunContext& context) {
  BitsPerByte sum;
  const auto add = [&](const TokenBlock& block) {
    return AddBitsPerByte(model, block, context, sum);
  };
  return Run(
      model.config(), tokenizer, documents, options, context, add, [] { return absl::OkStatus(); },
      sum);
}

absl::StatusOr<BitsPerByte> EvaluateCorpus(const StreamedModel& model, const Tokenizer& tokenizer,
                                           const DocumentVisitor& documents,
                                           const EvaluateOptions& options, RunContext& context) {
  BitsPerByte sum;
  BlockGroup group(model, context, sum);
  return Run(
      model.folder.config(), tokenizer, documents, options, context,
      [&](const TokenBlock& block) { return group.Add(block); }, [&] { return group.Evaluate(); },
      sum);
}

}  // namespace secateur
