// Which rows of a model's vocabulary the selected corpora need: their text is tokenised and the
// rows put in order, once for each set of corpora, with a forward pass over a small sample of it
// (row_scores.h); the plans of the last few sets are kept. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/lru_cache.h"
#include "server/base/mutex.h"
#include "server/base/run_context.h"
#include "server/corpus/corpus_store.h"
#include "server/model/transformer.h"
#include "server/pipeline/device_lane.h"
#include "server/pipeline/single_flight.h"
#include "server/tokenizer/tokenizer.h"
#include "server/vocabulary/vocabulary_trimmer.h"

namespace secateur {

// Share of the tokens of held-out text that may fall apart, unless a size is asked for.
inline constexpr double kMaxSplitShare = 0.001;

struct VocabularyPlan {
  VocabularyOrder order;  // from all text of the corpora
  int64_t rows = 0;       // the size that held-out text asks for; a multiple of 64, or all
  // From all text but the held-out one, to judge sizes on that.
  VocabularyOrder learnt_order;
  std::vector<int64_t> held_out_counts;

  // Share of the tokens of held-out text that are not among the first `size` rows; 0 for no text.
  double SplitShare(int64_t size) const;
};

class VocabularyPlanner {
 public:
  // Plain references: all must outlive the planner.
  VocabularyPlanner(const Transformer& model, const Tokenizer& tokenizer, DeviceLane& lane)
      : model_(model), tokenizer_(tokenizer), lane_(lane), plans_(kKeptPlans) {}

  // The model's tokenizer files, read at the first call. UNIMPLEMENTED when they are of a kind that
  // cannot be trimmed.
  absl::StatusOr<std::shared_ptr<const VocabularyTrimmer>> Trimmer();

  // The plan for `corpora`, if it is kept.
  std::shared_ptr<const VocabularyPlan> Find(const std::vector<CorpusInfo>& corpora);
  // The same, made if need be, once for all who ask at a time: reads and tokenises every document.
  // Reports "tokenize" and "expect" in documents; stops between documents after a cancel. Errors as
  // Trimmer(), ScoreRows() and reading documents.
  absl::StatusOr<std::shared_ptr<const VocabularyPlan>> Plan(const std::vector<CorpusInfo>& corpora,
                                                             const CorpusStore& store,
                                                             RunContext& context);

 private:
  static constexpr int64_t kKeptPlans = 16;  // about 4 MiB each for 262,144 rows
  struct Texts;
  absl::StatusOr<Texts> Count(const std::vector<CorpusInfo>& corpora, const CorpusStore& store,
                              RunContext& context) const;
  // By row; empty for no text.
  absl::StatusOr<std::vector<float>> Scores(const VocabularyTrimmer& trimmer, const Texts& texts,
                                            RunContext& context) const;

  const Transformer& model_;
  const Tokenizer& tokenizer_;
  DeviceLane& lane_;
  mutable Mutex mutex_;
  std::shared_ptr<const VocabularyTrimmer> trimmer_ ABSL_GUARDED_BY(mutex_);
  SingleFlight making_;             // by the same
  LruCache<VocabularyPlan> plans_;  // by a digest of the corpora; each costs 1
};

}  // namespace secateur
