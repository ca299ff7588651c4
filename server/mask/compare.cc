#include "server/mask/compare.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "server/base/status_macros.h"
#include "server/mask/compose.h"

namespace secateur {
namespace {

std::vector<float> RanksOf(const std::vector<float>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<float> ranks(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    // Exact in a float: halves of numbers up to 2^17.
    const float mean = static_cast<float>(begin + 1 + end) / 2;
    for (; begin < end; ++begin) ranks[order[begin]] = mean;
  }
  return ranks;
}

// Pearson's correlation of ranks, whose mean is known.
double Correlation(const std::vector<float>& a, const std::vector<float>& b) {
  const double mean = (static_cast<double>(a.size()) + 1) / 2;
  double product = 0, square_a = 0, square_b = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    const double x = a[k] - mean, y = b[k] - mean;
    product += x * y;
    square_a += x * x;
    square_b += y * y;
  }
  return square_a == 0 || square_b == 0 ? 0 : product / std::sqrt(square_a * square_b);
}

// Of two ascending lists.
int64_t CountShared(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  int64_t shared = 0;
  for (auto x = a.begin(), y = b.begin(); x != a.end() && y != b.end();) {
    if (*x == *y) ++shared;
    const bool first = *x <= *y, second = *y <= *x;
    if (first) ++x;
    if (second) ++y;
  }
  return shared;
}

bool SameShape(const ComparableView& a, const ComparableView& b) {
  return std::equal(a.ranks.begin(), a.ranks.end(), b.ranks.begin(), b.ranks.end(),
                    [](const auto& x, const auto& y) { return x.size() == y.size(); });
}

}  // namespace

absl::StatusOr<ComparableView> MakeComparable(const RelevanceView& view, int64_t width) {
  ASSIGN_OR_RETURN(const RemovalOrder order, Compose(Rule::kMean, {{&view, 1.0}}));
  const auto neurons = static_cast<int64_t>(order.layers[0].size());
  if (width < 1 || width > neurons) {
    return absl::InvalidArgumentError(StrCat("cannot keep ", width, " of ", neurons, " neurons"));
  }
  ComparableView comparable{.kept = SelectUniform(order, width), .ranks = {}};
  for (const RelevanceView::Layer& layer : view.layers) {
    comparable.ranks.push_back(RanksOf(layer.relevance));
  }
  return comparable;
}

absl::StatusOr<ViewComparison> CompareViews(const ComparableView& a, const ComparableView& b) {
  if (!SameShape(a, b)) {
    return absl::InvalidArgumentError("the views to compare are of different models");
  }
  ViewComparison result;
  int64_t all_shared = 0, all_either = 0;
  for (size_t layer = 0; layer < a.ranks.size(); ++layer) {
    const std::vector<int32_t>&kept_a = a.kept.kept[layer], &kept_b = b.kept.kept[layer];
    const int64_t shared = CountShared(kept_a, kept_b);
    const int64_t either = std::ssize(kept_a) + std::ssize(kept_b) - shared;
    all_shared += shared;
    all_either += either;
    result.layer_jaccards.push_back(static_cast<double>(shared) / static_cast<double>(either));
    result.layer_rank_correlations.push_back(Correlation(a.ranks[layer], b.ranks[layer]));
  }
  result.jaccard = static_cast<double>(all_shared) / static_cast<double>(all_either);
  result.rank_correlation = std::accumulate(result.layer_rank_correlations.begin(),
                                            result.layer_rank_correlations.end(), 0.0) /
                            static_cast<double>(a.ranks.size());
  return result;
}

double JaccardByChance(int64_t width, int64_t neurons) {
  const double share = static_cast<double>(width) / static_cast<double>(neurons);
  return share / (2 - share);
}

}  // namespace secateur
