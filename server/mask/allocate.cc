#include "server/mask/allocate.h"

#include <algorithm>
#include <numeric>
#include <queue>

#include "server/base/strings.h"

namespace secateur {
namespace {

// The lower convex hull's height at each whole step: what greedy needs to be exact.
std::vector<double> ConvexHull(const std::vector<double>& error) {
  std::vector<size_t> corners;
  const auto turns_up = [&](size_t a, size_t b, size_t c) {
    const double first = (error[b] - error[a]) * static_cast<double>(c - b);
    const double second = (error[c] - error[b]) * static_cast<double>(b - a);
    return first < second;
  };
  for (size_t i = 0; i < error.size(); ++i) {
    while (corners.size() >= 2 &&
           !turns_up(corners[corners.size() - 2], corners[corners.size() - 1], i)) {
      corners.pop_back();
    }
    corners.push_back(i);
  }
  std::vector<double> hull = error;
  for (size_t c = 0; c + 1 < corners.size(); ++c) {
    const size_t begin = corners[c];
    const size_t end = corners[c + 1];
    const double slope = (error[end] - error[begin]) / static_cast<double>(end - begin);
    for (size_t i = begin; i < end; ++i) {
      hull[i] = error[begin] + slope * static_cast<double>(i - begin);
    }
  }
  return hull;
}

struct Offer {
  double cost;  // of one more step
  size_t layer;

  // The cheapest first; of equal ones the lower layer.
  bool operator<(const Offer& other) const {
    return cost != other.cost ? cost > other.cost : layer > other.layer;
  }
};

}  // namespace

absl::StatusOr<std::vector<int64_t>> AllocateRemoved(const std::vector<RemovalCurve>& curves,
                                                     int64_t removed,
                                                     const std::vector<int64_t>& most_removed) {
  if (curves.empty() || most_removed.size() != curves.size()) {
    return absl::InvalidArgumentError(StrCat("there are ", curves.size(), " curves and ",
                                             most_removed.size(), " limits of layers"));
  }
  const int64_t step = curves.front().step;
  std::vector<std::vector<double>> hulls;
  std::vector<int64_t> most_steps;
  int64_t possible = 0;
  for (size_t layer = 0; layer < curves.size(); ++layer) {
    if (curves[layer].step != step || step <= 0 || curves[layer].error.empty()) {
      return absl::InvalidArgumentError(StrCat("the curve of layer ", layer, " has step ",
                                               curves[layer].step, " and ",
                                               curves[layer].error.size(), " errors"));
    }
    hulls.push_back(ConvexHull(curves[layer].error));
    const auto whole = static_cast<int64_t>(curves[layer].order.size()) / step;
    most_steps.push_back(std::min(whole, std::max<int64_t>(most_removed[layer], 0) / step));
    possible += most_steps.back() * step;
  }
  if (removed < 0 || removed % step != 0 || removed > possible) {
    return absl::InvalidArgumentError(StrCat(removed, " neurons cannot go in whole steps of ", step,
                                             "; at most ", possible, " can"));
  }
  std::priority_queue<Offer> offers;
  std::vector<int64_t> steps(curves.size(), 0);
  const auto offer = [&](size_t layer) {
    const auto at = static_cast<size_t>(steps[layer]);
    if (steps[layer] < most_steps[layer]) {
      offers.push({hulls[layer][at + 1] - hulls[layer][at], layer});
    }
  };
  for (size_t layer = 0; layer < curves.size(); ++layer) offer(layer);
  for (int64_t taken = 0; taken < removed; taken += step) {
    const size_t layer = offers.top().layer;
    offers.pop();
    ++steps[layer];
    offer(layer);
  }
  for (int64_t& count : steps) count *= step;
  return steps;
}

std::vector<int64_t> HalfWay(const std::vector<int64_t>& a, const std::vector<int64_t>& b,
                             int64_t step) {
  std::vector<int64_t> middle;
  std::vector<size_t> rounded_down;
  int64_t missing = std::accumulate(a.begin(), a.end(), int64_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    middle.push_back((a[i] + b[i]) / 2 / step * step);
    missing -= middle.back();
    if (middle.back() * 2 < a[i] + b[i]) rounded_down.push_back(i);
  }
  // Every layer that was rounded down lacks half a step or less: alternate layers get it back.
  for (size_t i = 0; i < rounded_down.size() && missing >= step; i += 2) {
    middle[rounded_down[i]] += step;
    missing -= step;
  }
  for (size_t i = 1; i < rounded_down.size() && missing >= step; i += 2) {
    middle[rounded_down[i]] += step;
    missing -= step;
  }
  return middle;
}

}  // namespace secateur
