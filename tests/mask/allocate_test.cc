#include "server/mask/allocate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kStep = 4;

RemovalCurve Curve(const std::vector<double>& error) {
  RemovalCurve curve{.step = kStep, .order = {}, .error = error};
  curve.order.resize((error.size() - 1) * kStep);
  std::iota(curve.order.begin(), curve.order.end(), 0);
  return curve;
}

RemovalCurve RandomConvexCurve(std::mt19937& random, size_t points) {
  std::vector<double> costs;
  for (size_t i = 1; i < points; ++i) costs.push_back(static_cast<double>(random() % 1000));
  std::sort(costs.begin(), costs.end());
  std::vector<double> error = {0};
  for (const double cost : costs) error.push_back(error.back() + cost);
  return Curve(error);
}

double Total(const std::vector<RemovalCurve>& curves, const std::vector<int64_t>& removed) {
  double total = 0;
  for (size_t layer = 0; layer < curves.size(); ++layer) {
    total += curves[layer].error[static_cast<size_t>(removed[layer] / kStep)];
  }
  return total;
}

// Tries every distribution.
double LeastTotal(const std::vector<RemovalCurve>& curves, int64_t removed,
                  const std::vector<int64_t>& most) {
  std::vector<int64_t> counts(curves.size());
  double least = std::numeric_limits<double>::infinity();
  const std::function<void(size_t, int64_t)> choose = [&](size_t layer, int64_t rest) {
    if (layer == curves.size()) {
      if (rest == 0) least = std::min(least, Total(curves, counts));
      return;
    }
    const int64_t limit =
        std::min<int64_t>({rest, most[layer], static_cast<int64_t>(curves[layer].order.size())});
    for (counts[layer] = 0; counts[layer] <= limit; counts[layer] += kStep) {
      choose(layer + 1, rest - counts[layer]);
    }
  };
  choose(0, removed);
  return least;
}

TEST(AllocateRemoved, IsTheBestDistributionOverConvexCurves) {
  std::mt19937 random(3);
  for (int round = 0; round < 30; ++round) {
    std::vector<RemovalCurve> curves;
    std::vector<int64_t> most;
    for (int layer = 0; layer < 4; ++layer) {
      curves.push_back(RandomConvexCurve(random, 6));
      most.push_back(static_cast<int64_t>(random() % 3 + 3) * kStep);
    }
    for (const int64_t removed : {0, 4, 20, 36}) {
      ASSERT_OK_AND_ASSIGN(const auto counts, AllocateRemoved(curves, removed, most));
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), removed);
      EXPECT_DOUBLE_EQ(Total(curves, counts), LeastTotal(curves, removed, most));
      for (size_t layer = 0; layer < 4; ++layer) EXPECT_LE(counts[layer], most[layer]);
    }
  }
}

TEST(AllocateRemoved, WalksAlongTheHullOfACurveWithABump) {
  // The second layer's first step is dear and its second one free: together they are cheapest.
  const std::vector<RemovalCurve> curves = {Curve({0, 5, 10, 15}), Curve({0, 6, 6, 30})};
  EXPECT_THAT(AllocateRemoved(curves, 2 * kStep, {100, 100}),
              IsOkAndHolds(ElementsAre(0, 2 * kStep)));
}

TEST(AllocateRemoved, OfEquallyCheapLayersTheLowerGivesFirst) {
  const std::vector<RemovalCurve> curves = {Curve({0, 1, 2}), Curve({0, 1, 2})};
  EXPECT_THAT(AllocateRemoved(curves, kStep, {100, 100}), IsOkAndHolds(ElementsAre(kStep, 0)));
}

TEST(AllocateRemoved, RefusesWhatCannotBeReached) {
  const std::vector<RemovalCurve> curves = {Curve({0, 1, 2}), Curve({0, 1, 2})};
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(AllocateRemoved(curves, 3, {100, 100}), StatusIs(invalid, HasSubstr("steps of 4")));
  EXPECT_THAT(AllocateRemoved(curves, 20, {100, 100}), StatusIs(invalid, HasSubstr("at most 16")));
  EXPECT_THAT(AllocateRemoved(curves, 8, {4, 3}), StatusIs(invalid, HasSubstr("at most 4")));
  EXPECT_THAT(AllocateRemoved(curves, 4, {4}), StatusIs(invalid, HasSubstr("limits")));
  EXPECT_THAT(AllocateRemoved({}, 0, {}), StatusIs(invalid, HasSubstr("0 curves")));
}

TEST(HalfWay, KeepsTheSumAndLiesBetween) {
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    std::vector<int64_t> a(9, 5 * kStep);
    std::vector<int64_t> b = a;
    for (int move = 0; move < 30; ++move) {
      const size_t from = random() % 9;
      if (b[from] == 0) continue;
      b[from] -= kStep;
      b[random() % 9] += kStep;
    }
    const std::vector<int64_t> middle = HalfWay(a, b, kStep);
    EXPECT_EQ(std::accumulate(middle.begin(), middle.end(), int64_t{0}), 45 * kStep);
    for (size_t i = 0; i < 9; ++i) {
      EXPECT_EQ(middle[i] % kStep, 0);
      EXPECT_GE(middle[i], std::min(a[i], b[i]));
      EXPECT_LE(middle[i], std::max(a[i], b[i]));
    }
  }
}

}  // namespace
}  // namespace secateur
