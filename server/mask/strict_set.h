// Strict sets by rank (ALGORITHM 3.1): a unit is irrelevant at sigma when its largest rank R among
// n units has R / n < sigma; with a quantile R is the rank that it names. Every comparison of a
// rank with sigma goes through here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace secateur {

// Ranks 0 to the result - 1 of `units` are irrelevant at `sigma` in [0, 1].
int64_t IrrelevantRanks(size_t units, double sigma);

// The largest sigma at which a set of `units` >= 1, the largest of whose ranks is `largest`, keeps
// a unit.
double LargestStrictSigma(int64_t largest, size_t units);

}  // namespace secateur
