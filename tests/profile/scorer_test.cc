#include "server/profile/scorer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace secateur {
namespace {

using testing::Each;

// A gated feed-forward block in float64 on random tokens, computed the slow way.
struct Ffn {
  std::function<at::Tensor(const at::Tensor&)> activation;
  at::Tensor gate, up, down;  // [m, d], [m, d], [d, m]
  at::Tensor input, before;   // [T, d]: the block's input, the residual stream it is added to
  at::Tensor gain;            // [d], undefined without a post norm

  at::Tensor Neurons() const { return activation(input.matmul(gate.t())) * input.matmul(up.t()); }
  at::Tensor Output() const { return Neurons().matmul(down.t()); }
  // What is added to the residual stream.
  at::Tensor Write(const at::Tensor& output) const {
    if (!gain.defined()) return output;
    return output / output.square().mean(1, /*keepdim=*/true).sqrt() * gain;
  }
  FfnActivation Tapped() const {
    return {
        .layer = 0, .neurons = Neurons(), .output = Output(), .residual = before + Write(Output())};
  }
  Ffn Without(at::Tensor Ffn::* weight, int64_t axis, int64_t neuron) const {
    Ffn other = *this;
    other.*weight = (this->*weight).clone();
    (other.*weight).select(axis, neuron).zero_();
    return other;
  }
};

at::Tensor Random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

Ffn RandomFfn(int64_t hidden, int64_t neurons, int64_t tokens, bool gelu, bool post_norm) {
  at::manual_seed(3);
  Ffn ffn{.activation =
              [gelu](const at::Tensor& x) { return gelu ? at::gelu(x, "tanh") : at::silu(x); },
          .gate = Random({neurons, hidden}),
          .up = Random({neurons, hidden}),
          .down = Random({hidden, neurons}),
          .input = Random({tokens, hidden}),
          .before = Random({tokens, hidden}) * 3,
          .gain = {}};
  if (post_norm) ffn.gain = 1 + 0.3 * Random({hidden});
  return ffn;
}

NeuronScores ScoreAll(const Ffn& ffn) {
  const FfnActivation tapped = ffn.Tapped();
  const int64_t tokens = tapped.neurons.size(0);
  const std::vector<int64_t> offsets = {0, tokens};
  const bool post_norm = ffn.gain.defined();
  const auto sums = SumDocuments(tapped.neurons, TokenWeights(tapped, post_norm), offsets,
                                 TokenScales(tapped, post_norm));
  return ScoreDocument(MeasureNeurons(ffn.down, ffn.gain), sums[0], tokens);
}

// Mean over tokens of the squared change of what is written, relative to the residual stream.
double RelativeChange(const Ffn& ffn, const at::Tensor& other_output) {
  const at::Tensor change = ffn.Write(other_output) - ffn.Write(ffn.Output());
  const at::Tensor size = ffn.Tapped().residual.square().sum(1);
  return (change.square().sum(1) / size).mean().item<double>();
}

void ExpectNear(double found, double expected, double relative) {
  EXPECT_LE(std::abs(found - expected), relative * std::abs(expected))
      << found << " is not near " << expected;
}

class ClosedForm : public testing::TestWithParam<bool> {};

TEST_P(ClosedForm, EqualsRemovingTheNeuronByGateUpOrDown) {
  const Ffn ffn = RandomFfn(24, 40, 17, GetParam(), /*post_norm=*/false);
  const NeuronScores scores = ScoreAll(ffn);
  for (int64_t k = 0; k < 40; ++k) {
    const at::Tensor by_gate = ffn.Without(&Ffn::gate, 0, k).Output();
    const at::Tensor by_up = ffn.Without(&Ffn::up, 0, k).Output();
    const at::Tensor by_down = ffn.Without(&Ffn::down, 1, k).Output();
    EXPECT_TRUE(at::allclose(by_gate, by_up, 1e-12, 1e-12));
    EXPECT_TRUE(at::allclose(by_gate, by_down, 1e-12, 1e-12));
    const double change = (by_gate - ffn.Output()).square().sum().item<double>();
    ExpectNear(scores.paper[static_cast<size_t>(k)] * 17, change, 1e-9);
    ExpectNear(scores.relative[static_cast<size_t>(k)], RelativeChange(ffn, by_gate), 1e-9);
  }
}

INSTANTIATE_TEST_SUITE_P(EachActivation, ClosedForm, testing::Bool(),
                         [](const auto& gelu) { return gelu.param ? "GeluTanh" : "Silu"; });

TEST(MeanActivationAndPeak, AreThoseOfTheDefinition) {
  const Ffn ffn = RandomFfn(12, 20, 9, /*gelu=*/false, /*post_norm=*/false);
  const NeuronScores scores = ScoreAll(ffn);
  const at::Tensor mean = ffn.Neurons().mean(0);
  const at::Tensor peak =
      std::get<0>(ffn.Neurons().abs().max(0)) * std::get<0>(ffn.down.abs().max(0));
  for (size_t k = 0; k < 20; ++k) {
    ExpectNear(scores.activation[k], mean[static_cast<int64_t>(k)].item<double>(), 1e-12);
    ExpectNear(scores.peak[k], peak[static_cast<int64_t>(k)].item<double>(), 1e-12);
  }
}

TEST(Peak, IsTheLargestCoordinateThatReachesTheResidualStreamThroughAPostNorm) {
  const Ffn ffn = RandomFfn(12, 20, 9, /*gelu=*/true, /*post_norm=*/true);
  const NeuronScores scores = ScoreAll(ffn);
  const at::Tensor norm = ffn.Output().square().mean(1, /*keepdim=*/true).sqrt();
  for (int64_t k = 0; k < 20; ++k) {
    // The neuron's own term of what the norm is given: [T, d].
    const at::Tensor term = ffn.Neurons().select(1, k).unsqueeze(1) * ffn.down.select(1, k);
    const double peak = (term / norm * ffn.gain).abs().max().item<double>();
    ExpectNear(scores.peak[static_cast<size_t>(k)], peak, 1e-12);
  }
}

// The exact change behind a post norm, for all neurons at once (ALGORITHM 2.4): [T, m], squared.
at::Tensor ExactPostNormChange(const Ffn& ffn) {
  const auto d = static_cast<double>(ffn.down.size(0));
  const at::Tensor a = ffn.Neurons(), o = ffn.Output(), w = ffn.down;
  const at::Tensor gain = ffn.gain.unsqueeze(1);
  const at::Tensor n2 = o.square().sum(1, true);
  const at::Tensor q = (o * ffn.gain).square().sum(1, true);
  const at::Tensor beta = o.matmul(w), beta2 = (o * ffn.gain.square()).matmul(w);
  const at::Tensor c = w.square().sum(0), cg = (w * gain).square().sum(0);
  const at::Tensor other_n2 = n2 - 2 * a * beta + a.square() * c;
  const at::Tensor other_q = q - 2 * a * beta2 + a.square() * cg;
  const at::Tensor cross = q - a * beta2;
  return d * (other_q / other_n2 + q / n2 - 2 * cross / (n2.sqrt() * other_n2.sqrt()));
}

TEST(ExactPostNormForm, EqualsRemovingTheNeuron) {
  const Ffn ffn = RandomFfn(24, 40, 17, /*gelu=*/true, /*post_norm=*/true);
  const at::Tensor size = ffn.Tapped().residual.square().sum(1, true);
  const at::Tensor exact = (ExactPostNormChange(ffn) / size).mean(0);
  for (int64_t k = 0; k < 40; ++k) {
    ExpectNear(exact[k].item<double>(), RelativeChange(ffn, ffn.Without(&Ffn::down, 1, k).Output()),
               1e-9);
  }
}

// The smaller the block, the more a single neuron weighs in its output: this is Gemma 3 270M's.
TEST(CheapPostNormForm, IsNearTheExactForm) {
  const Ffn ffn = RandomFfn(640, 2048, 32, /*gelu=*/true, /*post_norm=*/true);
  const at::Tensor size = ffn.Tapped().residual.square().sum(1, true);
  const at::Tensor exact = (ExactPostNormChange(ffn) / size).mean(0).sqrt();
  const NeuronScores scores = ScoreAll(ffn);
  std::vector<double> errors;
  for (size_t k = 0; k < scores.relative.size(); ++k) {
    const double expected = exact[static_cast<int64_t>(k)].item<double>();
    errors.push_back(std::abs(std::sqrt(scores.relative[k]) - expected) / expected);
  }
  std::sort(errors.begin(), errors.end());
  EXPECT_LE(errors[errors.size() / 2], 0.003);
  EXPECT_LE(errors.back(), 0.015);
}

TEST(CheapPostNormForm, LeavesThePaperScoreWithoutTheGain) {
  const Ffn ffn = RandomFfn(24, 40, 17, /*gelu=*/true, /*post_norm=*/true);
  const NeuronScores scores = ScoreAll(ffn);
  for (int64_t k = 0; k < 40; ++k) {
    const at::Tensor change = ffn.Without(&Ffn::down, 1, k).Output() - ffn.Output();
    ExpectNear(scores.paper[static_cast<size_t>(k)] * 17, change.square().sum().item<double>(),
               1e-9);
  }
}

std::vector<double> Weights(int64_t tokens) {
  std::vector<double> weights;
  for (int64_t t = 0; t < tokens; ++t) weights.push_back(1 / (1.0 + static_cast<double>(t % 7)));
  return weights;
}

void ExpectSumsNear(const TokenSums& found, const TokenSums& expected, double relative) {
  for (auto values : {&TokenSums::weighted, &TokenSums::squared, &TokenSums::peak}) {
    ASSERT_EQ((found.*values).size(), (expected.*values).size());
    for (size_t k = 0; k < (found.*values).size(); ++k) {
      ExpectNear((found.*values)[k], (expected.*values)[k], relative);
    }
  }
  for (size_t k = 0; k < found.plain.size(); ++k) {  // its terms may cancel
    EXPECT_NEAR(found.plain[k], expected.plain[k], relative * std::sqrt(expected.squared[k]) * 10);
  }
}

TEST(SumDocuments, AgreesWithFloat64ForEveryWidthAndLength) {
  at::manual_seed(1);
  for (const int64_t channels : {1, 15, 127, 128, 129, 300}) {
    const std::vector<int64_t> offsets = {0, 1, 64, 65, 200, 329};
    const at::Tensor neurons = at::randn({329, channels}, at::kFloat);
    const auto found = SumDocuments(neurons, Weights(329), offsets);
    const auto expected = SumDocuments(neurons.to(at::kDouble), Weights(329), offsets);
    ASSERT_EQ(found.size(), 5u);
    for (size_t i = 0; i < found.size(); ++i) ExpectSumsNear(found[i], expected[i], 2e-6);
  }
}

TEST(SumDocuments, ScalesPeaksOfTokensAndNothingElse) {
  at::manual_seed(2);
  const std::vector<int64_t> offsets = {0, 70, 329};
  std::vector<double> scales = Weights(329);
  for (double& scale : scales) scale *= 2;
  const at::Tensor factors = at::tensor(scales, at::kDouble).unsqueeze(1);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor neurons = at::randn({329, 140}, at::kFloat).to(type);
    const auto plain = SumDocuments(neurons, Weights(329), offsets);
    const auto scaled = SumDocuments(neurons, Weights(329), offsets, scales);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(scaled[i].weighted, plain[i].weighted);
      EXPECT_EQ(scaled[i].squared, plain[i].squared);
      EXPECT_EQ(scaled[i].plain, plain[i].plain);
      const at::Tensor written = neurons.to(at::kDouble) * factors;
      const at::Tensor expected = written.slice(0, offsets[i], offsets[i + 1]).abs().amax(0);
      for (size_t k = 0; k < 140; ++k) {
        ExpectNear(scaled[i].peak[k], expected[static_cast<int64_t>(k)].item<double>(), 1e-6);
      }
    }
  }
}

TEST(SumDocuments, AgreesForOtherLayoutsAndTypes) {
  at::manual_seed(1);
  const std::vector<int64_t> offsets = {0, 30, 50};
  const at::Tensor half = at::randn({50, 33}, at::kFloat).to(at::kBFloat16);
  const at::Tensor whole = half.to(at::kFloat);
  const at::Tensor wide = at::randn({50, 80}, at::kFloat);
  const auto expected = SumDocuments(half.to(at::kDouble), Weights(50), offsets);
  const auto column_major = SumDocuments(whole.t().contiguous().t(), Weights(50), offsets);
  const auto narrow = SumDocuments(half, Weights(50), offsets);
  const auto part = SumDocuments(wide.slice(1, 7, 40), Weights(50), offsets);
  const auto part_expected =
      SumDocuments(wide.slice(1, 7, 40).to(at::kDouble), Weights(50), offsets);
  for (size_t i = 0; i < 2; ++i) {
    ExpectSumsNear(column_major[i], expected[i], 2e-6);
    ExpectSumsNear(narrow[i], expected[i], 2e-6);
    ExpectSumsNear(part[i], part_expected[i], 2e-6);
  }
}

TEST(SumDocuments, KeepsItsPrecisionOverLongDocuments) {
  at::manual_seed(1);
  const at::Tensor neurons = at::rand({100'000, 3}, at::kFloat);
  const std::vector<int64_t> offsets = {0, 100'000};
  const auto found = SumDocuments(neurons, Weights(100'000), offsets);
  const auto expected = SumDocuments(neurons.to(at::kDouble), Weights(100'000), offsets);
  ExpectSumsNear(found[0], expected[0], 1e-7);
}

bool SameBits(const TokenSums& a, const TokenSums& b) {
  return a.weighted == b.weighted && a.squared == b.squared && a.plain == b.plain &&
         a.peak == b.peak;
}

TEST(SumDocuments, GivesEachDocumentTheSumsItHasAlone) {
  at::manual_seed(1);
  const at::Tensor neurons = at::randn({200, 150}, at::kFloat);
  const std::vector<int64_t> offsets = {0, 3, 130, 200};
  const std::vector<double> weights = Weights(200);
  const auto together = SumDocuments(neurons, weights, offsets);
  for (size_t i = 0; i < 3; ++i) {
    const std::vector<double> own(weights.begin() + offsets[i], weights.begin() + offsets[i + 1]);
    const std::vector<int64_t> bounds = {0, offsets[i + 1] - offsets[i]};
    const auto alone =
        SumDocuments(neurons.slice(0, offsets[i], offsets[i + 1]).clone(), own, bounds);
    EXPECT_TRUE(SameBits(together[i], alone[0]));
  }
}

TEST(SumDocuments, DoesNotDependOnTheNumberOfThreads) {
  at::manual_seed(1);
  const at::Tensor neurons = at::randn({300, 1000}, at::kFloat);
  const at::Tensor residual = at::randn({300, 77}, at::kFloat);
  const FfnActivation activation{
      .layer = 0, .neurons = neurons, .output = residual * 2, .residual = residual};
  const std::vector<int64_t> offsets = {0, 100, 300};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto weights = TokenWeights(activation, true);
  const auto sums = SumDocuments(neurons, weights, offsets);
  for (const int other : {2, 3, 4}) {
    at::set_num_threads(other);
    EXPECT_EQ(TokenWeights(activation, true), weights);
    const auto again = SumDocuments(neurons, weights, offsets);
    for (size_t i = 0; i < sums.size(); ++i) EXPECT_TRUE(SameBits(again[i], sums[i])) << other;
  }
  at::set_num_threads(threads);
}

TEST(TokenWeights, FollowTheirDefinitionInBothTypes) {
  at::manual_seed(1);
  for (const auto type : {at::kFloat, at::kDouble}) {
    const FfnActivation activation{.layer = 0,
                                   .neurons = {},
                                   .output = at::randn({20, 35}, type),
                                   .residual = at::randn({20, 35}, type)};
    const auto pre = TokenWeights(activation, false);
    const auto post = TokenWeights(activation, true);
    const AttentionActivation attention{.query = {},
                                        .key = {},
                                        .heads = {},
                                        .output = activation.output,
                                        .residual = activation.residual};
    EXPECT_EQ(TokenWeights(attention, false), pre);
    EXPECT_EQ(TokenWeights(attention, true), post);
    for (int64_t t = 0; t < 20; ++t) {
      const double h = activation.residual[t].to(at::kDouble).square().sum().item<double>();
      const double o = activation.output[t].to(at::kDouble).square().sum().item<double>();
      ExpectNear(pre[static_cast<size_t>(t)], 1 / h, 1e-13);
      ExpectNear(post[static_cast<size_t>(t)], 35 / (o * h), 1e-13);
    }
  }
}

TEST(TokenWeights, AreZeroForZerosAndNanForWhatIsNotFinite) {
  const at::Tensor zeros = at::zeros({3, 20}, at::kFloat);
  const at::Tensor ones = at::ones({3, 20}, at::kFloat);
  const at::Tensor infinite = ones * std::numeric_limits<float>::infinity();
  const auto weights = [](const at::Tensor& output, const at::Tensor& residual) {
    return TokenWeights(
        FfnActivation{.layer = 0, .neurons = {}, .output = output, .residual = residual}, true);
  };
  EXPECT_THAT(weights(ones, zeros), Each(0.0));
  EXPECT_THAT(weights(zeros, ones), Each(0.0));
  EXPECT_THAT(weights(ones, ones), Each(1.0 / 20));
  EXPECT_THAT(weights(infinite, ones), Each(testing::IsNan()));
  EXPECT_THAT(weights(ones, infinite), Each(testing::IsNan()));
  EXPECT_THAT(weights(ones, infinite - infinite), Each(testing::IsNan()));
}

TEST(MeasureNeurons, ReadsEveryRowOfTallMatrices) {
  at::manual_seed(1);
  const at::Tensor down = at::randn({1000, 6}, at::kFloat);
  const at::Tensor gain = at::randn({1000}, at::kFloat);
  const NeuronNorms norms = MeasureNeurons(down, gain);
  const NeuronNorms plain = MeasureNeurons(down, {});
  const at::Tensor wide = down.to(at::kDouble);
  for (int64_t k = 0; k < 6; ++k) {
    const at::Tensor column = wide.select(1, k);
    const auto i = static_cast<size_t>(k);
    ExpectNear(norms.squared[i], column.square().sum().item<double>(), 1e-12);
    ExpectNear(norms.gained_squared[i],
               (column * gain.to(at::kDouble)).square().sum().item<double>(), 1e-12);
    EXPECT_EQ(plain.largest[i], column.abs().max().item<double>());
    EXPECT_EQ(norms.largest[i], (column * gain.to(at::kDouble)).abs().max().item<double>());
    EXPECT_EQ(plain.gained_squared[i], norms.squared[i]);
  }
}

}  // namespace
}  // namespace secateur
