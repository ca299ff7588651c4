// Budgets against trying every width.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/mask/budget.h"
#include "tests/mask/model_shapes.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;

constexpr absl::StatusCode kUnreachable = absl::StatusCode::kOutOfRange;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// Of every width that may be asked for, behind that of 0 neurons, which nobody gets.
std::vector<Size> AllSizes(const ModelConfig& config, int64_t alignment) {
  std::vector<Size> sizes = {SizeAtWidth(config, 0, 2)};
  for (const int64_t width : AllowedWidths(config, alignment)) {
    sizes.push_back(SizeAtWidth(config, width, 2));
  }
  return sizes;
}

using Share = double Size::*;

// What SolveWidth should say, by trying every width; nothing if it should refuse.
std::optional<Size> Nearest(const std::vector<Size>& sizes, double share, int64_t smallest,
                            Share achieved) {
  Size best;
  double best_distance = 2;
  for (const Size& size : sizes) {
    const double distance = std::abs(size.*achieved - share);
    if (distance <= best_distance) {
      best = size;
      best_distance = distance;
    }
  }
  return best.width >= smallest ? std::optional(best) : std::nullopt;
}

std::vector<double> Shares() {
  std::vector<double> shares = {0.0, 1e-300, 1e-9, 0.98, 0.99, 0.9999, std::nextafter(1.0, 0.0)};
  for (int i = 1; i < 22; ++i) shares.push_back(i / 23.0);
  return shares;
}

// `make` turns a share into the budget.
void ExpectNearest(const Case& c, int64_t alignment, int64_t smallest, Share achieved,
                   const std::function<Budget(double)>& make) {
  const std::vector<Size> sizes = AllSizes(c.config, alignment);
  const double most = SizeAtWidth(c.config, smallest, 2).*achieved;
  for (const double share : Shares()) {
    const std::optional<Size> expected = Nearest(sizes, share, smallest, achieved);
    const auto solved = SolveWidth(c.config, make(share), alignment, 2);
    if (!expected.has_value()) {
      EXPECT_THAT(solved, StatusIs(kUnreachable, HasSubstr(absl::StrCat(most))))
          << c.name << " " << alignment << " " << share;
      continue;
    }
    ASSERT_OK(solved);
    EXPECT_EQ(solved->width, expected->width) << c.name << " " << alignment << " " << share;
    EXPECT_EQ(solved->parameters, expected->parameters);
  }
}

TEST(SolveWidth, NeuronRatioGivesTheNearestWidthOfAll) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      ExpectNearest(c, alignment, AllowedWidths(c.config, alignment).front(), &Size::neuron_ratio,
                    [](double share) { return NeuronRatio{share}; });
    }
  }
}

TEST(SolveWidth, ParameterReductionGivesTheNearestWidthOfAll) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      const int64_t smallest = SmallestExpert(c.config, alignment);
      ExpectNearest(c, alignment, smallest, &Size::parameter_reduction,
                    [](double share) { return ParameterReduction{share, false}; });
      ExpectNearest(c, alignment, smallest, &Size::block_reduction,
                    [](double share) { return ParameterReduction{share, true}; });
    }
  }
}

TEST(SolveWidth, LimitsGiveTheLargestWidthThatFits) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      const std::vector<Size> sizes = AllSizes(c.config, alignment);
      const int64_t smallest = SmallestExpert(c.config, alignment);
      const int64_t least = CountAt(c.config, smallest);
      std::vector<int64_t> limits = {1, kMax};
      for (const Size& size : sizes) {
        limits.insert(limits.end(), {size.parameters - 1, size.parameters, size.parameters + 1});
      }
      for (const int64_t limit : limits) {
        int64_t expected = 0;
        for (const Size& size : sizes) {
          if (size.parameters <= limit) expected = size.width;
        }
        const auto solved = SolveWidth(c.config, MaxParameters{limit}, alignment, 2);
        if (expected < smallest) {
          EXPECT_THAT(solved, StatusIs(kUnreachable, HasSubstr(absl::StrCat(least))));
          continue;
        }
        ASSERT_OK(solved);
        EXPECT_EQ(solved->width, expected) << c.name << " " << alignment << " " << limit;
        if (limit > kMax / 4) continue;
        for (const int64_t odd : {0, 3}) {  // not a whole element more
          EXPECT_EQ(SolveWidth(c.config, MaxBytes{4 * limit + odd}, alignment, 4)->width, expected);
        }
      }
    }
  }
}

TEST(SolveWidth, WidthIsTakenExactlyIfItIsAligned) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      const std::vector<int64_t> allowed = AllowedWidths(c.config, alignment);
      std::vector<int64_t> widths = {-1, 0};
      for (const int64_t width : allowed) {
        widths.insert(widths.end(), {width - 1, width, width + 1});
      }
      for (const int64_t width : widths) {
        const auto solved = SolveWidth(c.config, Width{width}, alignment, 2);
        if (std::find(allowed.begin(), allowed.end(), width) != allowed.end()) {
          ASSERT_OK(solved);
          ASSERT_EQ(solved->width, width);
        } else {
          ASSERT_THAT(solved,
                      StatusIs(kUnreachable, HasSubstr(absl::StrCat("width ", width, " "))));
        }
      }
    }
  }
}

}  // namespace
}  // namespace secateur
