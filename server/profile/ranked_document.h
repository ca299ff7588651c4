// The two steps of AddDocument (profile.h), apart so that they can run on several threads: ranking
// looks at one document and all channels, adding at a range of channels and the documents in turn.
// Both are pure functions of their arguments: the result does not depend on who runs them when.
// Internal to server/profile.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/profile/profile.h"

namespace secateur {

// One document's place in one layer.
struct RankedDocument {
  std::vector<uint16_t> ranks;  // by (paper score, channel): a permutation of the channels
  double relative_total = 0;    // sum over channels of relative s_k^2
  double paper_total = 0;
};

// Checks every value first: DATA_LOSS naming the channel, the statistic and the value found.
// REQUIRES: four vectors of one size, at most 65,536.
absl::StatusOr<RankedDocument> RankDocument(const DocumentScores& scores);

// Adds channels [begin, end), all but the layer's residual_peak. REQUIRES: `ranked` is
// RankDocument(scores), the vectors have the width of `statistics`, which holds fewer than
// kMaxDocuments documents.
void AddChannels(const DocumentScores& scores, const RankedDocument& ranked, int64_t begin,
                 int64_t end, LayerStatistics& statistics);

}  // namespace secateur
