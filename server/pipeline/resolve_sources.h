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
  RelevanceSource source = RelevanceSource::kCompose;  // not kAuto
  std::string reason;                                  // in words
  // CELL: one; COMPOSE: one for each value of each dimension; BLEND: the cell's, then those.
  std::vector<ResolvedView> views;
  bool general = false;  // general text has a view of its own, the last one
  // Of the selection, without general text: each once, sorted by digest.
  std::vector<CorpusInfo> corpora;
  int64_t shared_corpora = 0;  // how many are in more than one view
  int64_t documents = 0;       // of `corpora`
};

// FAILED_PRECONDITION when no calibration corpus carries a label (the message lists the nearest
// known values) or, for CELL and BLEND, all labels. General text is not in it: ComposeRequest adds
// it, since it is what is profiled by then.
absl::StatusOr<ResolvedSources> ResolveSources(const ExpertRequest& request,
                                               const CorpusStore& corpora);

// Known values of a label key by edit distance from `value`, at most five. Exposed for tests.
std::vector<std::string> NearestValues(const std::string& key, const std::string& value,
                                       const std::vector<CorpusInfo>& corpora);

}  // namespace secateur
