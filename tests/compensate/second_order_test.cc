#include "server/compensate/second_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/compensate/random_layer.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

std::vector<int64_t> KeptBut(const std::vector<int32_t>& order, size_t removed, int64_t neurons) {
  const std::set<int32_t> gone(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(removed));
  std::vector<int64_t> kept;
  for (int32_t channel = 0; channel < neurons; ++channel) {
    if (!gone.contains(channel)) kept.push_back(channel);
  }
  return kept;
}

RemovalCurve Order(const RandomLayer& layer, double lambda, int64_t most, int64_t step) {
  RunContext context;
  auto curve = OrderBySecondOrder(layer.down, layer.moments, lambda, most, step, {}, context);
  EXPECT_OK(curve);
  return *std::move(curve);
}

TEST(SecondOrder, RemovesFirstWhatTheOthersCanBestMakeUpFor) {
  for (int64_t seed = 0; seed < 5; ++seed) {
    const RandomLayer layer(seed);
    const RemovalCurve curve = Order(layer, 0.05, 1, 1);
    std::vector<double> objectives;
    for (int32_t channel = 0; channel < layer.down.size(1); ++channel) {
      objectives.push_back(
          CutError(layer, Index(KeptBut({channel}, 1, layer.down.size(1))), 0.05, true));
    }
    const auto best = std::min_element(objectives.begin(), objectives.end());
    EXPECT_EQ(curve.order[0], best - objectives.begin());
  }
}

// Removing block by block leaves the same solution as removing all at once.
TEST(SecondOrder, EveryErrorOfTheCurveIsThatOfItsCut) {
  const RandomLayer layer(7);
  for (const int64_t step : {1, 3, 8}) {
    const RemovalCurve curve = Order(layer, 0.2, 18, step);
    ASSERT_EQ(curve.order.size(), 18U);
    for (size_t i = 1; i < curve.error.size(); ++i) {
      const size_t removed = std::min<size_t>(i * static_cast<size_t>(step), 18);
      const double direct =
          CutError(layer, Index(KeptBut(curve.order, removed, layer.down.size(1))), 0.2, false);
      EXPECT_NEAR(curve.error[i], direct, 1e-8 * direct) << "step " << step << ", point " << i;
      EXPECT_GE(curve.error[i], curve.error[i - 1]);
    }
  }
}

// A vanishing ridge leaves what the cut costs with the best kept columns there are.
TEST(SecondOrder, EveryErrorOfTheCurveIsThatOfItsCutWithoutARidge) {
  for (const int64_t seed : {7, 12, 13}) {
    const RandomLayer layer(seed);
    const double lambda = 1e-9 * layer.moments.diagonal().mean().item<double>();
    for (const int64_t step : {1, 5}) {
      const RemovalCurve curve = Order(layer, lambda, 20, step);
      ASSERT_EQ(curve.error.size(), static_cast<size_t>(20 / step + 1));
      for (size_t i = 1; i < curve.error.size(); ++i) {
        const size_t removed = i * static_cast<size_t>(step);
        const double direct =
            CutError(layer, Index(KeptBut(curve.order, removed, layer.down.size(1))), 0, false);
        EXPECT_NEAR(curve.error[i], direct, 1e-9 * direct) << "step " << step << ", point " << i;
      }
    }
  }
}

TEST(SecondOrder, TakesEachNeuronOnce) {
  const RandomLayer layer(8);
  const RemovalCurve curve = Order(layer, 0.1, 24, 5);
  const std::set<int32_t> distinct(curve.order.begin(), curve.order.end());
  EXPECT_EQ(distinct.size(), 24U);
  EXPECT_EQ(*distinct.begin(), 0);
  EXPECT_EQ(*distinct.rbegin(), 23);
}

TEST(SecondOrder, OneOrderServesEverySize) {
  const RandomLayer layer(9);
  const RemovalCurve few = Order(layer, 0.1, 8, 4);
  const RemovalCurve many = Order(layer, 0.1, 20, 4);
  EXPECT_TRUE(std::equal(few.order.begin(), few.order.end(), many.order.begin()));
}

TEST(SecondOrder, NeverTakesAProtectedNeuronAndEndsWhenOnlyThoseAreLeft) {
  const RandomLayer layer(11);
  const std::vector<int32_t> free = Order(layer, 0.1, 24, 4).order;
  // The first to go, and one of the last.
  std::vector<uint16_t> kept = {static_cast<uint16_t>(free[0]), static_cast<uint16_t>(free[1]),
                                static_cast<uint16_t>(free[20])};
  std::sort(kept.begin(), kept.end());
  RunContext context;
  ASSERT_OK_AND_ASSIGN(const RemovalCurve curve,
                       OrderBySecondOrder(layer.down, layer.moments, 0.1, 24, 4, kept, context));
  EXPECT_EQ(curve.order.size(), 21U);
  EXPECT_EQ(curve.error.size(), 7U);  // 0, five steps of 4, and the last one
  for (const int32_t channel : curve.order) {
    EXPECT_FALSE(std::binary_search(kept.begin(), kept.end(), channel)) << channel;
  }
}

TEST(SecondOrder, StopsWhenItIsCancelled) {
  const RandomLayer layer(10);
  RunContext context;
  context.Cancel();
  EXPECT_THAT(OrderBySecondOrder(layer.down, layer.moments, 0.1, 8, 4, {}, context),
              StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace secateur
