#include "server/mask/mixed_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/mask/model_shapes.h"
#include "tests/mask/random_views.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A view of a model whose neurons of a layer come to `neurons` and each of its groups to `group`,
// with some noise.
RelevanceView ViewOf(const ModelConfig& config, double neurons, double group, unsigned seed) {
  std::mt19937 random(seed);
  RelevanceView view = RandomView(static_cast<size_t>(config.num_layers),
                                  static_cast<size_t>(config.intermediate_size), random);
  std::uniform_real_distribution<float> noise(0.5f, 1.5f);
  for (RelevanceView::Layer& layer : view.layers) {
    float sum = 0;
    for (const float relevance : layer.relevance) sum += relevance;
    for (float& relevance : layer.relevance) relevance /= sum;
    layer.score_total = neurons * static_cast<double>(noise(random));
    layer.group_score.resize(static_cast<size_t>(config.num_kv_heads));
    for (float& score : layer.group_score) score = static_cast<float>(group) * noise(random);
  }
  return view;
}

struct Composed {
  RemovalOrder order;
  GroupOrder groups;

  explicit Composed(const RelevanceView& view)
      : order(Compose(Rule::kMean, {{&view, 1.0}}).value()),
        groups(ComposeGroups({{&view, 1.0}}).value()) {}
};

ModelConfig FourGroups() {
  ModelConfig config = Llama(97, 32, 160, 5, 8, 4, true);
  config.head_dim = 4;
  return config;
}

TEST(RemovedRelevance, IsTheSumOverTheNeuronsThatACutDoesNotKeep) {
  const ModelConfig config = FourGroups();
  RelevanceView view = ViewOf(config, 2, 1, 1);
  view.layers[1].protected_channels = {3, 7};
  const Composed composed(view);
  for (const int64_t width : {1, 32, 96, 160}) {
    const Mask mask = SelectUniform(composed.order, width);
    double removed = 0;
    for (size_t layer = 0; layer < view.layers.size(); ++layer) {
      double kept = 0, all = 0;
      for (const float relevance : view.layers[layer].relevance) all += relevance;
      for (const int32_t channel : mask.kept[layer]) {
        kept += view.layers[layer].relevance[static_cast<size_t>(channel)];
      }
      removed += view.layers[layer].score_total * (all - kept);
    }
    EXPECT_NEAR(RemovedRelevance(composed.order, composed.groups.neuron_totals, width), removed,
                1e-5)
        << width;
  }
}

TEST(PossibleGroups, AreThoseWhoseHeadsDivideTheHiddenSizeAndFillTheDevices) {
  EXPECT_THAT(PossibleGroups(kLlama8B, {}), ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(PossibleGroups(kLlama8B, {.shape = Shape::kMasked}),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(PossibleGroups(kSmolLm2, {}), ElementsAre(1, 2, 3));
  EXPECT_THAT(PossibleGroups(kSmolLm2, {.tensor_parallel_degree = 2}), ElementsAre(2, 3));
  EXPECT_THAT(PossibleGroups(kGemma270M, {}), ElementsAre(1));
}

TEST(SolveMixed, TakesTheNumberOfGroupsThatRemovesLeastRelevance) {
  const ModelConfig config = FourGroups();
  for (unsigned seed = 0; seed < 20; ++seed) {
    // From groups that hardly matter to groups that matter most.
    const double group = 0.01 * std::pow(1.6, seed);
    const Composed composed(ViewOf(config, 1, group, seed));
    const Budget budget = ParameterReduction{0.3, true};
    for (const Shape shape : {Shape::kUniform, Shape::kMasked}) {
      ASSERT_OK_AND_ASSIGN(const Size solved, SolveMixed(config, budget, 8, 2, {}, {.shape = shape},
                                                         composed.order, composed.groups));
      EXPECT_NEAR(solved.block_reduction, 0.3, 0.03);
      const auto removed_with = [&](int64_t kept, int64_t width) {
        return RemovedRelevance(composed.order, composed.groups.neuron_totals, width) +
               RemovedScore(composed.groups, SelectGroups(composed.groups, kept, shape));
      };
      const double least = removed_with(solved.kv_head_groups, solved.width);
      for (const int64_t kept : {2, 3, 4}) {
        const auto size = SolveWidth(config, budget, 8, 2, {.kv_head_groups = kept});
        if (!size.ok() || (shape == Shape::kUniform && kept == 3)) continue;
        EXPECT_LE(least, removed_with(kept, size->width)) << kept;
      }
      if (seed == 0) EXPECT_EQ(solved.kv_head_groups, 2);
      if (seed == 19) EXPECT_EQ(solved.kv_head_groups, 4);
    }
  }
}

TEST(SolveMixed, ReachesWhatNeuronsAloneCannot) {
  const ModelConfig config = FourGroups();
  const Composed composed(ViewOf(config, 1, 1, 3));
  const int64_t least = SizeAtWidth(config, 16, 2).parameters;  // a tenth of the neurons stays
  const auto solve = [&](int64_t parameters) {
    return SolveMixed(config, MaxParameters{parameters}, 8, 2, {}, {}, composed.order,
                      composed.groups);
  };
  EXPECT_EQ(solve(least)->kv_head_groups, 4);
  ASSERT_OK_AND_ASSIGN(const Size below, solve(least - 1));
  EXPECT_EQ(below.kv_head_groups, 2);
  EXPECT_LE(below.parameters, least - 1);
  EXPECT_THAT(solve(1000), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("max_parameters")));
}

}  // namespace
}  // namespace secateur
