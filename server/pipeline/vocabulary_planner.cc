#include "server/pipeline/vocabulary_planner.h"

#include <algorithm>
#include <numeric>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/pipeline/row_scores.h"

namespace secateur {
namespace {

constexpr int kHeldOutEvery = 5;

// Nothing else decides a plan of one model.
std::string KeyOf(const std::vector<CorpusInfo>& corpora) {
  std::vector<Digest> digests;
  for (const CorpusInfo& corpus : corpora) digests.push_back(corpus.digest);
  std::sort(digests.begin(), digests.end());
  Sha256 hash;
  for (const Digest& digest : digests) hash.UpdateField(digest.Hex());
  return hash.Finish().Hex();
}

// About every fifth document, by the digest of its text: whatever corpus it stands in.
bool IsHeldOut(const Digest& digest) { return digest.bytes[0] % kHeldOutEvery == 0; }

}  // namespace

struct VocabularyPlanner::Texts {
  TokenCounts learnt;
  TokenCounts held_out;
  TextSample sample;  // of what is learnt from
};

double VocabularyPlan::SplitShare(int64_t size) const {
  const int64_t total = std::accumulate(held_out_counts.begin(), held_out_counts.end(), int64_t{0});
  int64_t split = 0;
  for (auto at = static_cast<size_t>(size); at < learnt_order.rows.size(); ++at) {
    const auto id = static_cast<size_t>(learnt_order.rows[at]);
    if (id < held_out_counts.size()) split += held_out_counts[id];
  }
  return total == 0 ? 0 : static_cast<double>(split) / static_cast<double>(total);
}

absl::StatusOr<std::shared_ptr<const VocabularyTrimmer>> VocabularyPlanner::Trimmer() {
  {
    MutexLock lock(mutex_);
    if (trimmer_ != nullptr) return trimmer_;
  }
  // Not under the lock: it takes a second. Whoever comes second throws its own away.
  auto opened =
      VocabularyTrimmer::Open(model_.folder().path(), tokenizer_, model_.config().vocabulary_size);
  if (!opened.ok()) return WithField(opened.status(), "spec.units");
  MutexLock lock(mutex_);
  if (trimmer_ == nullptr) trimmer_ = *std::move(opened);
  return trimmer_;
}

std::shared_ptr<const VocabularyPlan> VocabularyPlanner::Find(
    const std::vector<CorpusInfo>& corpora) {
  return plans_.Find(KeyOf(corpora));
}

absl::StatusOr<VocabularyPlanner::Texts> VocabularyPlanner::Count(
    const std::vector<CorpusInfo>& corpora, const CorpusStore& store, RunContext& context) const {
  Texts texts;
  int64_t done = 0;
  const int64_t total =
      std::accumulate(corpora.begin(), corpora.end(), int64_t{0},
                      [](int64_t sum, const CorpusInfo& c) { return sum + c.documents; });
  for (const CorpusInfo& corpus : corpora) {
    const absl::Status read =
        store.ForEachDocument(corpus.id(), [&](const Document& document) -> absl::Status {
          RETURN_IF_ERROR(context.CheckCancelled());
          context.Report({"tokenize", ++done, total, "documents"});
          const Digest digest = Sha256Of(document.text);
          const bool held_out = IsHeldOut(digest);
          if (!held_out) texts.sample.Add(digest, document.text);
          return CountTokens(tokenizer_, document.text, held_out ? texts.held_out : texts.learnt);
        });
    RETURN_IF_ERROR(read);
  }
  return texts;
}

absl::StatusOr<std::vector<float>> VocabularyPlanner::Scores(const VocabularyTrimmer& trimmer,
                                                             const Texts& texts,
                                                             RunContext& context) const {
  std::vector<int64_t> by_id = texts.learnt.by_id;
  by_id.resize(static_cast<size_t>(std::max<int64_t>(trimmer.file().id_limit(), trimmer.rows())));
  const std::vector<int64_t> made = DerivationCounts(trimmer.derivations(), by_id);
  std::vector<int32_t> examples;
  for (int32_t id = 0; id < trimmer.rows(); ++id) {
    if (made[static_cast<size_t>(id)] > 0) examples.push_back(id);
  }
  if (examples.empty()) return std::vector<float>();
  return ScoreRows(model_, tokenizer_, examples, texts.sample, lane_, context);
}

absl::StatusOr<std::shared_ptr<const VocabularyPlan>> VocabularyPlanner::Plan(
    const std::vector<CorpusInfo>& corpora, const CorpusStore& store, RunContext& context) {
  const std::string key = KeyOf(corpora);
  if (auto kept = plans_.Find(key)) return kept;
  ASSIGN_OR_RETURN(const auto hold, making_.Acquire(key, context));
  if (auto kept = plans_.Find(key)) return kept;
  ASSIGN_OR_RETURN(const auto trimmer, Trimmer());
  ASSIGN_OR_RETURN(Texts texts, Count(corpora, store, context));
  ASSIGN_OR_RETURN(std::vector<float> scores, Scores(*trimmer, texts, context));
  auto plan = std::make_shared<VocabularyPlan>();
  plan->learnt_order = trimmer->Order(texts.learnt, scores);
  plan->held_out_counts = texts.held_out.by_id;
  AddCounts(texts.held_out, texts.learnt);
  plan->order = trimmer->Order(texts.learnt, std::move(scores));
  const int64_t asked = RowsForShare(plan->learnt_order, plan->held_out_counts, kMaxSplitShare);
  plan->rows = RoundedRows(std::max(plan->order.needed, asked), trimmer->rows());
  return plans_.Insert(key, std::move(plan), 1);
}

}  // namespace secateur
