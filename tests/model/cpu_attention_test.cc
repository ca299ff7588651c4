// The kernel against the formula in float64, for every instruction set of this machine.
#include "server/model/cpu_attention.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace secateur {
namespace {

constexpr int64_t kMargin = 5;  // floats between the rows of one token and the next

struct Problem {
  cpu::AttentionShape shape;
  std::vector<int64_t> offsets;
  int64_t stride = 0;
  std::vector<float> rows;  // [tokens, stride]: queries, keys, values, margin

  int64_t tokens() const { return offsets.back(); }
  int64_t key_column() const { return shape.heads * shape.head_dim; }
  int64_t value_column() const { return key_column() + shape.kv_heads * shape.head_dim; }
  int64_t value_dim() const { return shape.value_dim == 0 ? shape.head_dim : shape.value_dim; }
  int64_t out_width() const { return shape.heads * value_dim(); }
  float At(int64_t token, int64_t column) const {
    return rows[static_cast<size_t>(token * stride + column)];
  }
};

Problem MakeProblem(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t window,
                    const std::vector<int64_t>& lengths, int64_t value_dim = 0) {
  Problem problem;
  problem.shape = {.heads = heads,
                   .kv_heads = kv_heads,
                   .head_dim = head_dim,
                   .window = window,
                   .scale = 1.3F / std::sqrt(static_cast<float>(head_dim)),
                   .value_dim = value_dim};
  problem.offsets = {0};
  for (const int64_t length : lengths) {
    problem.offsets.push_back(problem.offsets.back() + length);
  }
  problem.stride = (heads + kv_heads) * head_dim + kv_heads * problem.value_dim() + kMargin;
  problem.rows.resize(static_cast<size_t>(problem.tokens() * problem.stride));
  std::mt19937 random(static_cast<uint32_t>(head_dim * 7 + window));
  for (float& value : problem.rows) {
    value = 3.0F * (static_cast<float>(random() >> 8U) / 8388608.0F - 1.0F);
  }
  return problem;
}

std::vector<float> Attend(const Problem& problem, cpu::InstructionSet set) {
  const float* rows = problem.rows.data();
  std::vector<float> out(static_cast<size_t>(problem.tokens() * problem.out_width()));
  cpu::CausalAttention({rows, problem.stride}, {rows + problem.key_column(), problem.stride},
                       {rows + problem.value_column(), problem.stride}, problem.offsets,
                       problem.shape, out.data(), set);
  return out;
}

// One head's output at one position.
std::vector<double> Expected(const Problem& problem, int64_t begin, int64_t token, int64_t head) {
  const auto& [heads, kv_heads, head_dim, window, scale, unused] = problem.shape;
  const int64_t kv_head = head / (heads / kv_heads);
  const int64_t value_column = problem.value_column() + kv_head * problem.value_dim();
  const int64_t first = window > 0 ? std::max(begin, token - window + 1) : begin;
  std::vector<double> mixed(static_cast<size_t>(problem.value_dim()));
  double sum = 0.0;
  for (int64_t other = first; other <= token; ++other) {
    double score = 0.0;
    for (int64_t i = 0; i < head_dim; ++i) {
      score += static_cast<double>(problem.At(token, head * head_dim + i)) *
               problem.At(other, problem.key_column() + kv_head * head_dim + i);
    }
    const double weight = std::exp(score * scale);
    sum += weight;
    for (int64_t i = 0; i < problem.value_dim(); ++i) {
      mixed[static_cast<size_t>(i)] += weight * problem.At(other, value_column + i);
    }
  }
  for (double& value : mixed) value /= sum;
  return mixed;
}

void ExpectFormula(const Problem& problem, const std::vector<float>& out) {
  const int64_t width = problem.value_dim();
  for (size_t i = 0; i + 1 < problem.offsets.size(); ++i) {
    for (int64_t token = problem.offsets[i]; token < problem.offsets[i + 1]; ++token) {
      for (int64_t head = 0; head < problem.shape.heads; ++head) {
        const std::vector<double> expected = Expected(problem, problem.offsets[i], token, head);
        const int64_t at = token * problem.out_width() + head * width;
        for (int64_t j = 0; j < width; ++j) {
          ASSERT_NEAR(out[static_cast<size_t>(at + j)], expected[static_cast<size_t>(j)], 2e-5)
              << "sequence " << i << " token " << token << " head " << head << " channel " << j;
        }
      }
    }
  }
}

struct Case {
  int64_t heads, kv_heads, head_dim, window, value_dim = 0;
};

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, IsTheFormulaForEveryInstructionSet) {
  const auto [heads, kv_heads, head_dim, window, value_dim] = GetParam();
  const Problem problem =
      MakeProblem(heads, kv_heads, head_dim, window, {1, 2, 7, 8, 9, 31, 32, 33, 70}, value_dim);
  for (const cpu::InstructionSet set : cpu::SupportedInstructionSets()) {
    SCOPED_TRACE(testing::Message() << "instruction set " << static_cast<int>(set));
    ExpectFormula(problem, Attend(problem, set));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attention,
                         testing::Values(Case{1, 1, 2, 0}, Case{4, 4, 16, 0}, Case{6, 2, 24, 0},
                                         Case{4, 1, 32, 0}, Case{3, 3, 80, 0}, Case{4, 2, 16, 1},
                                         Case{4, 2, 16, 5}, Case{2, 1, 40, 8}, Case{2, 1, 16, 33},
                                         Case{2, 2, 16, 1000}, Case{4, 2, 16, 0, 40},
                                         Case{6, 2, 24, 8, 60}, Case{2, 2, 32, 0, 5}));

TEST(CausalAttention, GivesASequenceTheSameBitsInEveryBatchAndWithAnyThreads) {
  const std::vector<int64_t> lengths = {20, 77, 3, 50};
  const Problem together = MakeProblem(6, 3, 24, 0, lengths);
  const cpu::InstructionSet best = cpu::SupportedInstructionSets().front();
  const std::vector<float> all = Attend(together, best);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_EQ(Attend(together, best), all);
  at::set_num_threads(threads);
  for (size_t i = 0; i < lengths.size(); ++i) {
    Problem alone = together;
    alone.offsets = {0, lengths[i]};
    alone.rows.assign(together.rows.begin() + together.offsets[i] * together.stride,
                      together.rows.begin() + together.offsets[i + 1] * together.stride);
    const std::vector<float> found = Attend(alone, best);
    EXPECT_TRUE(std::equal(found.begin(), found.end(),
                           all.begin() + together.offsets[i] * together.key_column()))
        << i;
  }
}

TEST(CausalAttention, StandsScoresThatWouldOverflowAnExponential) {
  Problem problem = MakeProblem(2, 1, 16, 0, {40});
  problem.shape.scale = 40.0F;  // scores of thousands
  for (const cpu::InstructionSet set : cpu::SupportedInstructionSets()) {
    for (const float value : Attend(problem, set)) EXPECT_LE(std::abs(value), 3.001F);
  }
}

TEST(CausalAttention, CarriesNanToThoseThatSeeItOnly) {
  Problem problem = MakeProblem(2, 1, 16, 0, {10, 10});
  problem.rows[static_cast<size_t>(5 * problem.stride + problem.key_column())] = NAN;
  for (const cpu::InstructionSet set : cpu::SupportedInstructionSets()) {
    const std::vector<float> out = Attend(problem, set);
    for (int64_t token = 0; token < 20; ++token) {
      EXPECT_EQ(std::isnan(out[static_cast<size_t>(token * 32)]), token >= 5 && token < 10)
          << token;
    }
  }
}

}  // namespace
}  // namespace secateur
