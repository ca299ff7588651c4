// Ranks of units in one document, and the largest of them over documents: what strict sets need
// (ALGORITHM 3.1). Pure functions. Internal to server/profile.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace secateur {

inline constexpr int kTopRanks = 32;

// By (score, unit), 0 = least relevant: a permutation. REQUIRES: scores are finite and not
// negative, at most 65,536 of them.
std::vector<uint16_t> RankScores(const std::vector<float>& scores);

// `row` holds the kTopRanks largest ranks of a unit so far, descending, padded with 0.
void InsertTopRank(uint16_t rank, uint16_t* row);
// The largest ranks of both rows, into `row`: those of all documents of both.
void MergeTopRanks(const uint16_t* other, uint16_t* row);

// Rows [unit][kTopRanks] that `documents` documents can have left. INVALID_ARGUMENT naming `where`
// and the first unit that has none of these.
absl::Status CheckTopRanks(std::string_view where, const std::vector<uint16_t>& top_ranks,
                           int64_t documents);

}  // namespace secateur
