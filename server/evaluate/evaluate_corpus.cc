#include "server/evaluate/evaluate_corpus.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/utf8.h"
#include "server/corpus/packing.h"

namespace secateur {
namespace {

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
  if (options.score.block_tokens < 1) {
    return absl::InvalidArgumentError(
        StrCat("block_tokens is ", options.score.block_tokens, "; it must be positive"));
  }
  return absl::OkStatus();
}

// Documents to sequences, and their scores to measures.
class CorpusEvaluator {
 public:
  CorpusEvaluator(const LayeredModel& model, const Tokenizer& tokenizer,
                  const EvaluateOptions& options, RunContext& context)
      : config_(model.config),
        tokenizer_(tokenizer),
        options_(options),
        context_(context),
        scorer_(model, options.score, context) {}

  absl::Status Add(const Document& document) {
    RETURN_IF_ERROR(context_.CheckCancelled());
    RETURN_IF_ERROR(AddText(document));
    return AddChoices(document);
  }

  absl::StatusOr<CorpusScores> Finish() {
    RETURN_IF_ERROR(scorer_.Finish());
    if (scores_.text.documents == 0) {
      return absl::InvalidArgumentError("there are no documents to evaluate on");
    }
    if (options_.documents_total == 0) Report(scores_.text.documents);
    return std::move(scores_);
  }

 private:
  absl::Status AddText(const Document& document) {
    const Tokenizer& cutter = options_.cut_by != nullptr ? *options_.cut_by : tokenizer_;
    ASSIGN_OR_RETURN(const Document cut, Cut(cutter, document, options_.max_tokens));
    // A cut text can have more tokens than it was cut to: a character comes along as a whole, and
    // its end joins differently; another tokenizer may take several for each. The packer must not
    // cut a second time. Blocks of one token: each document comes back by itself.
    const int64_t most = options_.cut_by != nullptr
                             ? config_.max_positions
                             : std::min(config_.max_positions, 2 * options_.max_tokens + 64);
    Packer packer(tokenizer_, config_.first_token_id,
                  {.max_document_tokens = most, .block_tokens = 1},
                  [this](const TokenBlock& framed) {
                    const auto tokens = static_cast<int64_t>(framed.ids.size()) - 1;
                    const int64_t bytes = framed.text_bytes[0];
                    return scorer_.Add(framed.ids, 1, [this, tokens, bytes](double nats) {
                      scores_.text.nats += nats;
                      scores_.text.tokens += tokens;
                      scores_.text.bytes += bytes;
                      ++scores_.text.documents;
                      Report(options_.documents_total);
                      return absl::OkStatus();
                    });
                  });
    RETURN_IF_ERROR(packer.Add(cut));
    return packer.Finish();
  }

  absl::Status AddChoices(const Document& document) {
    const int64_t most = std::min(config_.max_positions, 2 * options_.max_tokens);
    ASSIGN_OR_RETURN(std::vector<ChoiceOption> options,
                     FrameChoices(tokenizer_, config_.first_token_id, document, most));
    if (options.empty()) return absl::OkStatus();
    const size_t place = scores_.choices.size();
    scores_.choices.push_back({.chosen = -1, .label = *document.label});
    best_.push_back(-std::numeric_limits<double>::infinity());
    for (size_t k = 0; k < options.size(); ++k) {
      const auto bytes = static_cast<double>(options[k].answer_bytes);
      RETURN_IF_ERROR(scorer_.Add(std::move(options[k].ids), options[k].start,
                                  [this, place, k, bytes](double nats) {
                                    if (-nats / bytes > best_[place]) {
                                      best_[place] = -nats / bytes;
                                      scores_.choices[place].chosen = static_cast<int64_t>(k);
                                    }
                                    return absl::OkStatus();
                                  }));
    }
    return absl::OkStatus();
  }

  void Report(int64_t total) {
    context_.Report(
        {"evaluate", options_.documents_before + scores_.text.documents, total, "documents"});
  }

  const ModelConfig& config_;
  const Tokenizer& tokenizer_;
  const EvaluateOptions& options_;
  RunContext& context_;
  SequenceScorer scorer_;
  CorpusScores scores_;
  std::vector<double> best_;  // log-likelihood a byte of the chosen option of each document
};

}  // namespace

absl::StatusOr<CorpusScores> EvaluateCorpus(const LayeredModel& model, const Tokenizer& tokenizer,
                                            const DocumentVisitor& documents,
                                            const EvaluateOptions& options, RunContext& context) {
  RETURN_IF_ERROR(CheckOptions(options, model.config));
  CorpusEvaluator evaluator(model, tokenizer, options, context);
  RETURN_IF_ERROR(documents([&](const Document& document) { return evaluator.Add(document); }));
  return evaluator.Finish();
}

}  // namespace secateur
