#include "server/mask/strict_set.h"

#include <cmath>

namespace secateur {
namespace {

bool IsIrrelevant(int64_t rank, size_t units, double sigma) {
  return static_cast<double>(rank) / static_cast<double>(units) < sigma;
}

}  // namespace

int64_t IrrelevantRanks(size_t units, double sigma) {
  int64_t ranks = std::llround(sigma * static_cast<double>(units));
  while (ranks > 0 && !IsIrrelevant(ranks - 1, units, sigma)) --ranks;
  while (IsIrrelevant(ranks, units, sigma)) ++ranks;
  return ranks;
}

double LargestStrictSigma(int64_t largest, size_t units) {
  return static_cast<double>(largest) / static_cast<double>(units);
}

}  // namespace secateur
