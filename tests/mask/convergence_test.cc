#include "server/mask/convergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/mask/random_views.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;

constexpr size_t kLayers = 4;
constexpr size_t kNeurons = 200;

// [document][layer][neuron]: the normalised share of one document.
using Documents = std::vector<std::vector<std::vector<double>>>;

// Neurons have a level of their own, and documents `noise` around it.
Documents RandomDocuments(size_t count, double noise, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<std::vector<double>> level(kLayers, std::vector<double>(kNeurons));
  for (auto& layer : level) {
    for (double& value : layer) value = normal(random);
  }
  Documents documents(count, level);
  for (auto& document : documents) {
    for (auto& layer : document) {
      double total = 0;
      for (double& value : layer) total += value = std::exp(value + noise * normal(random));
      for (double& value : layer) value /= total;
    }
  }
  return documents;
}

// The view of `documents`, of which the first `in_half` are in the half.
RelevanceView ViewOf(const Documents& documents, size_t in_half) {
  RelevanceView view;
  view.documents = static_cast<int64_t>(documents.size());
  view.half_share = static_cast<double>(in_half) / static_cast<double>(documents.size());
  view.layers.resize(kLayers);
  for (size_t l = 0; l < kLayers; ++l) {
    RelevanceView::Layer& layer = view.layers[l];
    layer.max_rank.resize(kNeurons);
    for (size_t k = 0; k < kNeurons; ++k) {
      double all = 0, half = 0;
      for (size_t d = 0; d < documents.size(); ++d) {
        all += documents[d][l][k] / static_cast<double>(documents.size());
        if (d < in_half) half += documents[d][l][k] / static_cast<double>(documents.size());
      }
      layer.relevance.push_back(static_cast<float>(all));
      layer.half.push_back(static_cast<float>(half));
    }
  }
  return view;
}

std::set<int32_t> RemovedBy(const Documents& documents, size_t begin, size_t end, size_t layer,
                            size_t width) {
  std::vector<double> sums(kNeurons);
  for (size_t d = begin; d < end; ++d) {
    for (size_t k = 0; k < kNeurons; ++k) sums[k] += documents[d][layer][k];
  }
  const auto order = SortedByRemoval(sums, false);
  return {order.begin(), order.end() - static_cast<ptrdiff_t>(width)};
}

// Jaccard index of what documents [a, b) and [b, c) would remove, mean over layers.
double JaccardByDefinition(const Documents& documents, size_t a, size_t b, size_t c, size_t width) {
  double sum = 0;
  for (size_t l = 0; l < kLayers; ++l) {
    const auto x = RemovedBy(documents, a, b, l, width), y = RemovedBy(documents, b, c, l, width);
    std::vector<int32_t> shared;
    std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(shared));
    sum += static_cast<double>(shared.size()) /
           static_cast<double>(x.size() + y.size() - shared.size());
  }
  return sum / kLayers;
}

TEST(Halves, AgreeAsTheirDocumentsDoApart) {
  std::mt19937 random(1);
  for (const size_t in_half : {1U, 4U, 7U}) {
    const Documents documents = RandomDocuments(8, 0.7, random);
    const RelevanceView view = ViewOf(documents, in_half);
    ASSERT_OK_AND_ASSIGN(const auto halves, Halves::Compose({{&view, 1.0}}));
    ASSERT_TRUE(halves.has_value());
    for (const size_t width : {1U, 60U, 120U, 199U}) {
      const Convergence found = halves->At(static_cast<int64_t>(width));
      EXPECT_NEAR(found.split_half, JaccardByDefinition(documents, 0, in_half, 8, width), 1e-12)
          << in_half << " " << width;
      EXPECT_EQ(halves->At(static_cast<int64_t>(width), 1).split_half, found.split_half);
    }
  }
}

TEST(Halves, OfSeveralViewsCountByTheViewsWeights) {
  std::mt19937 random(2);
  const Documents a = RandomDocuments(6, 0.5, random), b = RandomDocuments(4, 0.5, random);
  const RelevanceView view_a = ViewOf(a, 2), view_b = ViewOf(b, 3);
  ASSERT_OK_AND_ASSIGN(const auto halves, Halves::Compose({{&view_a, 3.0}, {&view_b, 1.0}}));
  // Two documents that stand for the halves: means over their own documents, 3 to 1.
  Documents means(2, a[0]);
  for (size_t l = 0; l < kLayers; ++l) {
    for (size_t k = 0; k < kNeurons; ++k) {
      const auto mean = [&](const Documents& from, size_t begin, size_t end) {
        double sum = 0;
        for (size_t d = begin; d < end; ++d) sum += from[d][l][k];
        return sum / static_cast<double>(end - begin);
      };
      means[0][l][k] = 0.75 * mean(a, 0, 2) + 0.25 * mean(b, 0, 3);
      means[1][l][k] = 0.75 * mean(a, 2, 6) + 0.25 * mean(b, 3, 4);
    }
  }
  EXPECT_NEAR(halves->At(130).split_half, JaccardByDefinition(means, 0, 1, 2, 130), 1e-12);
}

TEST(Halves, ThatAreTheSameAgreeFully) {
  std::mt19937 random(3);
  Documents documents = RandomDocuments(3, 0.7, random);
  const Documents copy = documents;
  documents.insert(documents.end(), copy.begin(), copy.end());
  const RelevanceView view = ViewOf(documents, 3);
  ASSERT_OK_AND_ASSIGN(const auto halves, Halves::Compose({{&view, 1.0}}));
  const Convergence found = halves->At(140);
  EXPECT_EQ(found.split_half, 1);
  EXPECT_NEAR(found.agreement, 1, 1e-6);
  EXPECT_LE(found.growth, 1);
}

TEST(Halves, EstimateWhatAsManyOtherDocumentsWouldRemove) {
  std::mt19937 random(4);
  double estimated = 0, halves_agree = 0, measured = 0;
  constexpr int kRounds = 12;
  for (int round = 0; round < kRounds; ++round) {
    const Documents documents = RandomDocuments(32, 1.0, random);
    const Documents first(documents.begin(), documents.begin() + 16);
    const RelevanceView view = ViewOf(first, 8);
    ASSERT_OK_AND_ASSIGN(const auto halves, Halves::Compose({{&view, 1.0}}));
    const Convergence found = halves->At(130);
    estimated += found.agreement / kRounds;
    halves_agree += found.split_half / kRounds;
    measured += JaccardByDefinition(documents, 0, 16, 32, 130) / kRounds;
  }
  EXPECT_NEAR(estimated, measured, 0.02);
  EXPECT_LT(halves_agree, measured - 0.03);  // so the estimate does something
}

TEST(Halves, SayHowManyDocumentsWouldBeEnough) {
  std::mt19937 random(5);
  const Documents documents = RandomDocuments(256, 1.3, random);
  const Documents few(documents.begin(), documents.begin() + 16);
  const RelevanceView view = ViewOf(few, 8);
  ASSERT_OK_AND_ASSIGN(const auto halves, Halves::Compose({{&view, 1.0}}));
  const Convergence found = halves->At(130);
  ASSERT_LT(found.agreement, kEnoughAgreement);
  ASSERT_GT(found.growth, 1);
  const auto enough = static_cast<size_t>(16 * found.growth);
  ASSERT_LE(2 * enough, documents.size());
  EXPECT_NEAR(JaccardByDefinition(documents, 0, enough, 2 * enough, 130), kEnoughAgreement, 0.05);
}

TEST(Halves, AreNothingWhenAllDocumentsAreInOne) {
  std::mt19937 random(6);
  const Documents documents = RandomDocuments(3, 1, random);
  for (const size_t in_half : {0U, 3U}) {
    const RelevanceView lopsided = ViewOf(documents, in_half), even = ViewOf(documents, 1);
    ASSERT_OK_AND_ASSIGN(const auto halves, Halves::Compose({{&even, 1.0}, {&lopsided, 1.0}}));
    EXPECT_FALSE(halves.has_value());
  }
}

TEST(Halves, NeverRemoveWhatIsProtected) {
  std::mt19937 random(7);
  RelevanceView view = ViewOf(RandomDocuments(2, 5, random), 1);
  for (RelevanceView::Layer& layer : view.layers) {
    for (uint16_t k = 0; k < 100; ++k) layer.protected_channels.push_back(k);
  }
  ASSERT_OK_AND_ASSIGN(const auto halves, Halves::Compose({{&view, 1.0}}));
  EXPECT_EQ(halves->At(100).split_half, 1);  // all that may go
}

TEST(Halves, RefuseViewsThatKeepNone) {
  std::mt19937 random(8);
  const RelevanceView view = RandomView(2, 10, random);
  EXPECT_THAT(Halves::Compose({{&view, 1.0}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("view 0")));
}

TEST(Overlap, IsThatOfTwoNormalVariables) {
  std::mt19937 random(9);
  std::normal_distribution<double> normal;
  for (const double share : {0.1, 0.35, 0.5}) {
    EXPECT_NEAR(OverlapAt(0, share), share, 1e-12);
    EXPECT_NEAR(OverlapAt(1, share), 1, 1e-3);
    for (const double correlation : {0.3, 0.8, 0.95}) {
      std::vector<double> x(200'000), y(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = normal(random);
        y[i] = correlation * x[i] + std::sqrt(1 - correlation * correlation) * normal(random);
      }
      const auto below = [&](std::vector<double> values) {
        const auto nth = values.begin() + static_cast<ptrdiff_t>(share * double(values.size()));
        std::nth_element(values.begin(), nth, values.end());
        return *nth;
      };
      const double cut_x = below(x), cut_y = below(y);
      double shared = 0;
      for (size_t i = 0; i < x.size(); ++i) shared += x[i] < cut_x && y[i] < cut_y ? 1 : 0;
      const double overlap = shared / (share * static_cast<double>(x.size()));
      EXPECT_NEAR(OverlapAt(correlation, share), overlap, 0.02) << share << " " << correlation;
      EXPECT_NEAR(CorrelationAt(OverlapAt(correlation, share), share), correlation, 1e-9);
    }
  }
}

}  // namespace
}  // namespace secateur
