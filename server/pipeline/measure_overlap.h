// How much of held-out corpora stands in what an expert is made from.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/corpus/corpus_store.h"

namespace secateur {

// For each held-out corpus, by id, the share of its shingles that calibration corpora have too
// (corpus/shingles.h); whole documents count on both sides, however many tokens were used. Nothing
// when there are no calibration corpora or one of them is no longer stored. Reads every corpus
// once; memory: 4 MiB for each held-out one. Reports "overlap" in documents.
absl::StatusOr<std::optional<std::vector<double>>> MeasureOverlap(
    const std::vector<std::string>& held_out, const std::vector<std::string>& calibration,
    const CorpusStore& corpora, RunContext& context);

}  // namespace secateur
