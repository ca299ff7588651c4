// Each kernel against the formula in float64, element by element.
#include "server/model/cpu_kernels.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace secateur {
namespace {

using Rows = std::vector<float>;

constexpr double kTolerance = 1e-5;  // relative, beside the same in absolute terms

Rows Random(size_t count, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  Rows rows(count);
  for (float& value : rows) {
    value = spread * (static_cast<float>(random() >> 8U) / 8388608.0F - 1.0F);
  }
  return rows;
}

void ExpectNear(float found, double expected, const char* what, size_t index) {
  EXPECT_NEAR(found, expected, kTolerance * (1.0 + std::abs(expected))) << what << " " << index;
}

std::vector<double> Normed(const float* x, const Rows& weight, double offset, double eps) {
  double sum = 0.0;
  for (size_t i = 0; i < weight.size(); ++i) sum += static_cast<double>(x[i]) * x[i];
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(weight.size()) + eps);
  std::vector<double> y;
  for (size_t i = 0; i < weight.size(); ++i) y.push_back(x[i] * scale * (offset + weight[i]));
  return y;
}

// Widths around the lengths of vectors, so that tails are covered.
class Widths : public testing::TestWithParam<size_t> {
 protected:
  size_t width() const { return GetParam(); }
  int64_t signed_width() const { return static_cast<int64_t>(GetParam()); }
  static constexpr size_t kRows = 37;
};

TEST_P(Widths, NormIsTheFormula) {
  const Rows x = Random(kRows * width(), 3.0F, 1);
  const Rows weight = Random(width(), 1.0F, 2);
  Rows y(x.size());
  cpu::NormRows(x.data(), {.weight = weight.data(), .offset = 1.0F, .eps = 1e-5F}, kRows,
                signed_width(), y.data());
  for (size_t row = 0; row < kRows; ++row) {
    const auto expected = Normed(&x[row * width()], weight, 1.0, 1e-5);
    for (size_t i = 0; i < width(); ++i) ExpectNear(y[row * width() + i], expected[i], "norm", i);
  }
}

TEST_P(Widths, AddNormIsTheFormulaWithAndWithoutEitherNorm) {
  const Rows x = Random(kRows * width(), 2.0F, 3);
  const Rows delta = Random(kRows * width(), 5.0F, 4);
  const Rows post = Random(width(), 1.0F, 5);
  const Rows pre = Random(width(), 1.0F, 6);
  for (const bool with_post : {false, true}) {
    for (const bool with_pre : {false, true}) {
      Rows sum = x;  // in place, as the layers do
      Rows y = delta;
      cpu::AddNormRows(sum.data(), y.data(),
                       {.weight = with_post ? post.data() : nullptr, .offset = 1.0F, .eps = 1e-6F},
                       {.weight = with_pre ? pre.data() : nullptr, .offset = 0.0F, .eps = 1e-6F},
                       kRows, signed_width(), sum.data(), with_pre ? y.data() : nullptr);
      for (size_t row = 0; row < kRows; ++row) {
        const size_t at = row * width();
        const auto added = Normed(&delta[at], post, 1.0, 1e-6);
        for (size_t i = 0; i < width(); ++i) {
          ExpectNear(sum[at + i], x[at + i] + (with_post ? added[i] : delta[at + i]), "sum", i);
        }
        const auto normed = Normed(&sum[at], pre, 0.0, 1e-6);
        for (size_t i = 0; i < width(); ++i) {
          ExpectNear(y[at + i], with_pre ? normed[i] : delta[at + i], "y", i);
        }
      }
    }
  }
}

TEST_P(Widths, GateIsTheFormulaForBothActivationsAndAnyMask) {
  const Rows gate = Random(kRows * width(), 12.0F, 7);
  const Rows up = Random(kRows * width(), 2.0F, 8);
  Rows kept(width(), 1.0F);
  for (size_t i = 0; i < width(); i += 3) kept[i] = 0.0F;
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const bool masked : {false, true}) {
      Rows y = gate;
      cpu::GateRows(y.data(), up.data(), masked ? kept.data() : nullptr, activation, kRows,
                    signed_width());
      for (size_t i = 0; i < y.size(); ++i) {
        const double g = gate[i];
        const double u = std::sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g);
        const double active = activation == Activation::kSilu ? g / (1.0 + std::exp(-g))
                                                              : 0.5 * g * (1.0 + std::tanh(u));
        const double mask = masked ? static_cast<double>(kept[i % width()]) : 1.0;
        ExpectNear(y[i], active * up[i] * mask, "gate", i);
      }
    }
  }
}

TEST_P(Widths, LogSumExpIsTheFormula) {
  const Rows x = Random(kRows * width(), 60.0F, 9);
  std::vector<double> result(kRows);
  cpu::LogSumExpRows(x.data(), kRows, signed_width(), result.data());
  for (size_t row = 0; row < kRows; ++row) {
    double sum = 0.0;
    for (size_t i = 0; i < width(); ++i) {
      sum += std::exp(static_cast<double>(x[row * width() + i]));
    }
    EXPECT_NEAR(result[row], std::log(sum), 1e-6 * (1.0 + std::abs(std::log(sum))));
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Widths, testing::Values(1, 2, 7, 16, 31, 64, 65, 576, 5000));

TEST(Rotate, TurnsPairsByTheAngleOfTheirPositionAfterTheNorm) {
  constexpr size_t kTokens = 5;
  constexpr size_t kHeads = 3;
  constexpr size_t kDim = 20;
  constexpr size_t kStride = kHeads * kDim + 9;  // columns of a wider tensor
  const Rows before = Random(kTokens * kStride, 2.0F, 10);
  const Rows weight = Random(kDim, 1.0F, 11);
  const std::vector<int64_t> positions = {0, 1, 2, 0, 1};
  Rows cos;
  Rows sin;
  for (int position = 0; position < 3; ++position) {
    for (size_t i = 0; i < kDim / 2; ++i) {
      const double angle = position * std::pow(100.0, -2.0 * static_cast<double>(i) / kDim);
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  for (const bool with_norm : {false, true}) {
    Rows x = before;
    cpu::RotateRows(x.data(), kStride, kHeads, kDim,
                    {.weight = with_norm ? weight.data() : nullptr, .offset = 1.0F, .eps = 1e-6F},
                    {.positions = positions.data(), .cos = cos.data(), .sin = sin.data()}, kTokens);
    for (size_t token = 0; token < kTokens; ++token) {
      for (size_t head = 0; head < kHeads; ++head) {
        const size_t at = token * kStride + head * kDim;
        std::vector<double> h(before.begin() + static_cast<std::ptrdiff_t>(at),
                              before.begin() + static_cast<std::ptrdiff_t>(at + kDim));
        if (with_norm) h = Normed(&before[at], weight, 1.0, 1e-6);
        for (size_t i = 0; i < kDim / 2; ++i) {
          const size_t angle = static_cast<size_t>(positions[token]) * kDim / 2 + i;
          const double c = cos[angle];
          const double s = sin[angle];
          const size_t j = i + kDim / 2;
          ExpectNear(x[at + i], h[i] * c - h[j] * s, "first half", i);
          ExpectNear(x[at + j], h[j] * c + h[i] * s, "second half", i);
        }
      }
      for (size_t i = kHeads * kDim; i < kStride; ++i) {
        EXPECT_EQ(x[token * kStride + i], before[token * kStride + i]) << "outside the heads";
      }
    }
  }
}

TEST(Gate, CarriesExtremesAndNanThrough) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    Rows gate = {-1e30F, -100.0F, -0.0F, 0.0F, 100.0F, 1e30F, nan, inf};
    const Rows up(gate.size(), 1.0F);
    cpu::GateRows(gate.data(), up.data(), nullptr, activation, 1,
                  static_cast<int64_t>(gate.size()));
    EXPECT_LE(std::abs(gate[1]), 1e-30F);
    EXPECT_EQ(gate[2], 0.0F);
    EXPECT_EQ(gate[3], 0.0F);
    EXPECT_EQ(gate[4], 100.0F);
    EXPECT_EQ(gate[5], 1e30F);
    EXPECT_TRUE(std::isnan(gate[6]));
    EXPECT_EQ(gate[7], inf);
  }
}

TEST(NormRows, GivesARowTheSameBitsInEveryBatch) {
  constexpr int64_t kWidth = 576;
  const Rows x = Random(200 * kWidth, 3.0F, 12);
  const Rows weight = Random(kWidth, 1.0F, 13);
  const cpu::Norm norm{.weight = weight.data(), .offset = 0.0F, .eps = 1e-5F};
  Rows all(x.size());
  cpu::NormRows(x.data(), norm, 200, kWidth, all.data());
  for (int64_t row = 0; row < 200; ++row) {
    Rows alone(kWidth);
    cpu::NormRows(x.data() + row * kWidth, norm, 1, kWidth, alone.data());
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), all.begin() + row * kWidth)) << row;
  }
}

}  // namespace
}  // namespace secateur
