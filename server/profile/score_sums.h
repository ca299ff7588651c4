// Sums of scores in units of kScoreUnit, which stop at the largest number instead of overflowing:
// so they do not depend on the order of what is added. Internal to server/profile.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "server/profile/profile.h"

namespace secateur {

inline void AddSaturating(uint64_t units, uint64_t& sum) {
  if (__builtin_add_overflow(sum, units, &sum)) sum = std::numeric_limits<uint64_t>::max();
}

// Rounds to a unit first. REQUIRES: a finite score of at least 0.
inline void AddScore(double score, uint64_t& sum) {
  constexpr double kLargest = 18446744073709549568.0;  // the largest double below 2^64
  AddSaturating(static_cast<uint64_t>(std::min(std::round(score / kScoreUnit), kLargest)), sum);
}

}  // namespace secateur
