// Labels to corpora: which text the relevance of a request comes from, and with which weights.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/corpus/corpus_store.h"
#include "server/pipeline/expert_request.h"

namespace secateur {

struct ResolvedView {
  std::vector<CorpusInfo> corpora;  // sorted by digest, at least one
  double weight = 1;                // shares of all views sum to 1
};

struct ResolvedSources {
  bool cell = false;                // CELL, else COMPOSE
  std::string reason;               // in words
  std::vector<ResolvedView> views;  // CELL: one; COMPOSE: one for each value of each dimension
  std::vector<CorpusInfo> corpora;  // of all views, each once, sorted by digest
  int64_t shared_corpora = 0;       // how many are in more than one view
  int64_t documents = 0;            // of `corpora`
};

// FAILED_PRECONDITION when no calibration corpus carries a label (the message lists the nearest
// known values) or, for CELL, all labels.
absl::StatusOr<ResolvedSources> ResolveSources(const ExpertRequest& request,
                                               const CorpusStore& corpora);

// Known values of a label key by edit distance from `value`, at most five. Exposed for tests.
std::vector<std::string> NearestValues(const std::string& key, const std::string& value,
                                       const std::vector<CorpusInfo>& corpora);

}  // namespace secateur
