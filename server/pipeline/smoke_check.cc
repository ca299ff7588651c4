#include "server/pipeline/smoke_check.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/digest.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/corpus/packing.h"
#include "server/evaluate/generate.h"
#include "server/evaluate/score_sequences.h"

namespace secateur {
namespace {

constexpr size_t kPrompts = 4;
constexpr int64_t kPromptTokens = 16;
constexpr int64_t kNewTokens = 24;

// `eos_token_id` of config.json: a number, a list of numbers, or nothing.
std::set<int32_t> EndIds(const nlohmann::ordered_json& config) {
  const auto found = config.find("eos_token_id");
  if (found == config.end()) return {};
  std::set<int32_t> ids;
  for (const nlohmann::ordered_json& id :
       found->is_array() ? *found : nlohmann::ordered_json::array({*found})) {
    if (id.is_number_integer()) ids.insert(id.get<int32_t>());
  }
  return ids;
}

// The beginnings of the corpus's first documents.
absl::StatusOr<TokenSequences> Prompts(const ModelConfig& config, const Tokenizer& tokenizer,
                                       const std::string& corpus_id, const CorpusStore& corpora) {
  TokenSequences prompts;
  const int64_t most = std::min(kPromptTokens, config.max_positions - kNewTokens);
  if (most < 1) return prompts;  // a model of so few positions continues nothing
  // Blocks of one token: each document comes back by itself.
  Packer packer(tokenizer, config.first_token_id, {.max_document_tokens = most, .block_tokens = 1},
                [&](const TokenBlock& block) {
                  prompts.push_back(block.ids);
                  return absl::OkStatus();
                });
  absl::Status read =
      corpora.ForEachDocument(corpus_id, [&](const Document& document) -> absl::Status {
        RETURN_IF_ERROR(packer.Add(document));
        RETURN_IF_ERROR(packer.Finish());
        return prompts.size() < kPrompts ? absl::OkStatus() : absl::OutOfRangeError("enough");
      });
  if (!read.ok() && prompts.size() < kPrompts) return read;
  return prompts;
}

// All that decides what a base does: the prompts are of the corpus.
std::string KeyOf(const std::string& corpus_id, const PackedBatch& sample) {
  Sha256 hash;
  hash.UpdateField(corpus_id);
  hash.UpdateField(absl::StrJoin(sample.ids, ","));
  hash.UpdateField(absl::StrJoin(sample.offsets, ","));
  return hash.Finish().Hex();
}

absl::StatusOr<double> NatsPerToken(const LayeredModel& model, const PackedBatch& sample,
                                    const DeviceTurn& turn, RunContext& context) {
  SequenceScorer scorer(model, {.block_tokens = sample.tokens(), .turn = turn}, context);
  double nats = 0;
  for (size_t i = 1; i < sample.offsets.size(); ++i) {
    std::vector<int32_t> ids(sample.ids.begin() + sample.offsets[i - 1],
                             sample.ids.begin() + sample.offsets[i]);
    RETURN_IF_ERROR(scorer.Add(std::move(ids), 1, [&nats](double more) {
      nats += more;
      return absl::OkStatus();
    }));
  }
  RETURN_IF_ERROR(scorer.Finish());
  const int64_t predicted = sample.tokens() - sample.sequences();
  return predicted == 0 ? 0 : nats / static_cast<double>(predicted);
}

}  // namespace

absl::StatusOr<SmokeResult> SmokeCheck(ResidentModel& base, const OpenedExpert& expert,
                                       const std::string& corpus_id, const PackedBatch& sample,
                                       double expert_nats_per_token, const Stores& stores,
                                       RunContext& context) {
  const LayeredModel resident = Resident(base.transformer());
  const LayeredModel streamed = expert.model();
  const DeviceTurn turn = [&](const std::function<absl::Status()>& work) {
    return base.lane().Run(context, work);
  };
  const auto continued = [&](const LayeredModel& model, const Tokenizer& tokenizer,
                             const ModelFolder& folder) -> absl::StatusOr<TokenSequences> {
    ASSIGN_OR_RETURN(const TokenSequences prompts,
                     Prompts(model.config, tokenizer, corpus_id, stores.corpora));
    const GenerateOptions options{
        .new_tokens = kNewTokens, .end_ids = EndIds(folder.config_json()), .turn = turn};
    return ContinueGreedily(model, prompts, options, context);
  };
  const std::string key = KeyOf(corpus_id, sample);
  std::shared_ptr<const BaseSmoke> of_base = base.smokes().Find(key);
  if (of_base == nullptr) {
    BaseSmoke found;
    ASSIGN_OR_RETURN(found.nats_per_token, NatsPerToken(resident, sample, turn, context));
    ASSIGN_OR_RETURN(const TokenSequences tokens,
                     continued(resident, base.tokenizer(), base.folder()));
    found.repetition_rate = RepetitionRate(tokens);
    of_base = base.smokes().Insert(key, std::make_shared<const BaseSmoke>(found), 1);
  }
  SmokeResult result{.base_repetition_rate = of_base->repetition_rate,
                     .perplexity_ratio = std::exp(expert_nats_per_token - of_base->nats_per_token)};
  if (!std::isfinite(result.perplexity_ratio)) {
    return absl::DataLossError(StrCat("the expert predicts calibration text with ",
                                      expert_nats_per_token, " nats a token, the base with ",
                                      of_base->nats_per_token, ": not a usable model"));
  }
  ASSIGN_OR_RETURN(const TokenSequences by_expert,
                   continued(streamed, expert.tokenizer(), expert.folder()));
  for (const std::vector<int32_t>& tokens : by_expert) {
    result.generated_tokens += static_cast<int64_t>(tokens.size());
  }
  result.expert_repetition_rate = RepetitionRate(by_expert);
  return result;
}

}  // namespace secateur
