#include "server/model/row_affinity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

// Rows around ten directions, row i around number i % 10, of different lengths.
at::Tensor TenKinds(int64_t rows, int64_t width) {
  at::manual_seed(3);
  const at::Tensor kinds = at::randn({10, width});
  const at::Tensor ids = at::arange(rows, at::kLong).remainder(10);
  const at::Tensor lengths = at::rand({rows, 1}) * 10 + 0.1;
  return (kinds.index_select(0, ids) + 0.5 * at::randn({rows, width})) * lengths;
}

std::vector<int32_t> BestFirst(const std::vector<float>& scores) {
  std::vector<int32_t> ids(scores.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  return ids;
}

TEST(RowAffinity, FindsRowsOfTheKindsOfItsExamples) {
  const at::Tensor embedding = TenKinds(2000, 32);
  std::vector<int32_t> examples;
  // From all over: a score that knew of low ids alone would prefer those.
  for (int32_t first = 0; first < 2000; first += 70) {
    examples.push_back(first + 3);
    examples.push_back(first + 7);
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<float> scores, RowAffinity(embedding, examples));
  ASSERT_EQ(scores.size(), 2000u);
  const std::vector<int32_t> best = BestFirst(scores);
  const auto found = std::count_if(best.begin(), best.begin() + 400,
                                   [](int32_t id) { return id % 10 == 3 || id % 10 == 7; });
  EXPECT_GT(found, 390);
}

TEST(RowAffinity, LooksAtDirectionsAndNotAtLengths) {
  const at::Tensor embedding = TenKinds(500, 32);
  ASSERT_OK_AND_ASSIGN(const auto scores, RowAffinity(embedding, {3, 13, 23}));
  ASSERT_OK_AND_ASSIGN(const auto doubled, RowAffinity(embedding * 2, {3, 13, 23}));
  for (size_t id = 0; id < scores.size(); ++id) EXPECT_NEAR(doubled[id], scores[id], 1e-4);
}

TEST(RowAffinity, IsTheSameEveryTime) {
  const at::Tensor embedding = TenKinds(500, 32);
  ASSERT_OK_AND_ASSIGN(const auto first, RowAffinity(embedding, {3, 13, 23}));
  EXPECT_THAT(RowAffinity(embedding, {3, 13, 23}), IsOkAndHolds(first));
}

// Rows of zeros have no direction; a text may need every token.
TEST(RowAffinity, IsFiniteWhateverTheRows) {
  at::Tensor embedding = at::zeros({100, 8});
  embedding[7].fill_(1);
  std::vector<int32_t> all(100);
  std::iota(all.begin(), all.end(), 0);
  for (const std::vector<int32_t>& examples : {std::vector<int32_t>{7}, {0}, all}) {
    ASSERT_OK_AND_ASSIGN(const auto scores, RowAffinity(embedding, examples));
    EXPECT_TRUE(
        std::all_of(scores.begin(), scores.end(), [](float s) { return std::isfinite(s); }));
  }
}

TEST(RowAffinity, RefusesExamplesThatAreNoRows) {
  const at::Tensor embedding = TenKinds(50, 8);
  EXPECT_THAT(RowAffinity(embedding, {}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(RowAffinity(embedding, {1, 50}),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("50")));
  EXPECT_THAT(RowAffinity(embedding, {-1}), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace secateur
