#include "server/mask/group_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <utility>

#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

using Groups = std::vector<std::vector<int32_t>>;

constexpr AttentionHeads kHeads = {.heads = 6, .kv_heads = 3, .head_dim = 2};

RelevanceView ViewOfGroups(size_t layers, size_t groups, unsigned seed) {
  std::mt19937 random(seed);
  std::lognormal_distribution<float> score(-6.0F, 2.0F);
  RelevanceView view;
  view.layers.resize(layers);
  for (RelevanceView::Layer& layer : view.layers) {
    layer.group_score.resize(groups);
    std::generate(layer.group_score.begin(), layer.group_score.end(),
                  [&] { return score(random); });
    layer.score_total = static_cast<double>(score(random));
  }
  return view;
}

// Scores of a few values: many ties.
GroupOrder CoarseOrder(size_t layers, size_t groups, unsigned seed) {
  std::mt19937 random(seed);
  GroupOrder order{.scores = std::vector<std::vector<double>>(layers),
                   .neuron_totals = std::vector<double>(layers)};
  for (std::vector<double>& scores : order.scores) {
    scores.resize(groups);
    for (double& score : scores) score = static_cast<double>(random() % 5);
  }
  return order;
}

using Units = std::set<std::pair<size_t, int32_t>>;  // (layer, group)

// All that go.
Units Gone(const GroupOrder& order, const Groups& kept) {
  Units gone;
  for (size_t layer = 0; layer < order.scores.size(); ++layer) {
    for (size_t group = 0; group < order.scores[layer].size(); ++group) {
      gone.emplace(layer, static_cast<int32_t>(group));
    }
    for (const int32_t group : kept[layer]) gone.erase({layer, group});
  }
  return gone;
}

TEST(ComposeGroups, IsTheWeightedMeanOfTheViews) {
  const RelevanceView a = ViewOfGroups(4, 5, 1), b = ViewOfGroups(4, 5, 2);
  ASSERT_OK_AND_ASSIGN(const GroupOrder order, ComposeGroups({{&a, 3}, {&b, 1}}));
  ASSERT_THAT(order.scores, SizeIs(4));
  ASSERT_THAT(order.neuron_totals, SizeIs(4));
  for (size_t layer = 0; layer < 4; ++layer) {
    EXPECT_DOUBLE_EQ(order.neuron_totals[layer],
                     0.75 * a.layers[layer].score_total + 0.25 * b.layers[layer].score_total);
    for (size_t group = 0; group < 5; ++group) {
      EXPECT_DOUBLE_EQ(order.scores[layer][group],
                       0.75 * static_cast<double>(a.layers[layer].group_score[group]) +
                           0.25 * static_cast<double>(b.layers[layer].group_score[group]));
    }
  }
}

TEST(ComposeGroups, DoesNotDependOnTheOrderOfTheViews) {
  std::vector<RelevanceView> content;
  for (unsigned i = 0; i < 5; ++i) content.push_back(ViewOfGroups(3, 4, i));
  content[4] = content[3];
  content[4].layers[2].score_total *= 3;  // all that tells them apart
  std::vector<WeightedView> views;
  for (const RelevanceView& view : content) views.push_back({&view, 0.1});
  views[2].weight = 7;
  ASSERT_OK_AND_ASSIGN(const GroupOrder expected, ComposeGroups(views));
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::shuffle(views.begin(), views.end(), random);
    ASSERT_OK_AND_ASSIGN(const GroupOrder order, ComposeGroups(views));
    EXPECT_EQ(order.scores, expected.scores);
    EXPECT_EQ(order.neuron_totals, expected.neuron_totals);
  }
}

TEST(ComposeGroups, RefusesViewsThatDoNotGoTogether) {
  const RelevanceView good = ViewOfGroups(3, 4, 1);
  const auto refused = [&](const std::vector<WeightedView>& views, const char* what) {
    EXPECT_THAT(ComposeGroups(views),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refused({}, "at least one view");
  refused({{nullptr, 1}}, "null");
  for (const double weight : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    refused({{&good, 1}, {&good, weight}}, "the weight of view 1");
  }
  constexpr double kHuge = std::numeric_limits<double>::max();
  refused({{&good, kHuge}, {&good, kHuge}}, "sum of the weights");
  const RelevanceView none;
  refused({{&none, 1}}, "no layers");
  RelevanceView other = good;
  other.layers.pop_back();
  refused({{&good, 1}, {&other, 1}}, "view 1 has 2 layers");
  other = good;
  other.layers[1].group_score.pop_back();
  refused({{&good, 1}, {&other, 1}}, "view 1, layer 1 has scores of 3");
  refused({{&other, 1}}, "view 0, layer 1 has scores of 3");
  other = good;
  for (RelevanceView::Layer& layer : other.layers) layer.group_score.clear();
  refused({{&other, 1}}, "view 0, layer 0 has scores of 0");
  for (const float value :
       {-1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    other = good;
    other.layers[2].group_score[3] = value;
    refused({{&good, 1}, {&other, 1}}, "view 1, layer 2: the score of group 3");
    other = good;
    other.layers[2].score_total = static_cast<double>(value);
    refused({{&other, 1}}, "view 0, layer 2: the total of all neurons");
  }
}

TEST(SelectGroupsUniform, KeepsTheLargestScoresOfEachLayerAndOfTiesTheLowerGroup) {
  const GroupOrder order{.scores = {{1, 3, 2, 3}, {0, 0, 0, 0}, {5, 1, 1, 9}}, .neuron_totals = {}};
  EXPECT_THAT(SelectGroupsUniform(order, 1),
              ElementsAre(ElementsAre(1), ElementsAre(0), ElementsAre(3)));
  EXPECT_THAT(SelectGroupsUniform(order, 3),
              ElementsAre(ElementsAre(1, 2, 3), ElementsAre(0, 1, 2), ElementsAre(0, 1, 3)));
  EXPECT_TRUE(Gone(order, SelectGroupsUniform(order, 4)).empty());
}

TEST(SelectGroupsUniform, KeepsAmongMoreWhatItKeepsAmongFewer) {
  const GroupOrder order = CoarseOrder(5, 8, 3);
  for (int64_t kept = 1; kept < 8; ++kept) {
    const Groups few = SelectGroupsUniform(order, kept),
                 more = SelectGroupsUniform(order, kept + 1);
    for (size_t layer = 0; layer < 5; ++layer) {
      EXPECT_TRUE(std::includes(more[layer].begin(), more[layer].end(), few[layer].begin(),
                                few[layer].end()));
    }
  }
}

TEST(SelectGroupsByLayer, RemovesAsManyAsUniformSelectionDoes) {
  for (const size_t groups : {1, 2, 3, 5, 8}) {
    for (const size_t layers : {1, 2, 3, 4, 12}) {
      const GroupOrder order = CoarseOrder(layers, groups, 5);
      for (int64_t kept = 1; kept <= static_cast<int64_t>(groups); ++kept) {
        EXPECT_EQ(Gone(order, SelectGroupsByLayer(order, kept)).size(),
                  Gone(order, SelectGroupsUniform(order, kept)).size())
            << layers << " layers of " << groups << ", " << kept << " kept";
      }
    }
  }
}

TEST(SelectGroupsByLayer, RemovesTheSmallestScoresAndOfTiesTheLaterLayerAndTheHigherGroup) {
  const GroupOrder order{.scores = {{0, 0, 0, 0},
                                    {0, 0, 0, 0},
                                    {4, 2, 1, 3},
                                    {4, 4, 4, 4},
                                    {9, 1, 9, 9},
                                    {8, 8, 8, 8},
                                    {7, 7, 7, 7},
                                    {0, 0, 0, 0}},
                         .neuron_totals = {}};
  EXPECT_EQ(Gone(order, SelectGroupsByLayer(order, 4)), (Units{}));
  // Eight go: the ones and the two, which leaves layer 2 its half; the fours of layer 3 down to its
  // half, the sevens likewise, and one eight.
  EXPECT_EQ(Gone(order, SelectGroupsByLayer(order, 3)),
            (Units{{4, 1}, {2, 2}, {2, 1}, {3, 3}, {3, 2}, {6, 3}, {6, 2}, {5, 3}}));
}

TEST(SelectGroupsByLayer, NothingRemovedIsMoreRelevantThanWhatCouldGoInstead) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const GroupOrder order = CoarseOrder(9, 5, seed);
    const Groups kept = SelectGroupsByLayer(order, 4);  // 9 go; six layers can lose 2 each
    double most_removed = 0, least_left = 5;
    for (const auto& [layer, group] : Gone(order, kept)) {
      EXPECT_TRUE(layer >= 2 && layer < 8);
      most_removed = std::max(most_removed, order.scores[layer][static_cast<size_t>(group)]);
    }
    for (size_t layer = 2; layer < 8; ++layer) {
      EXPECT_GE(kept[layer].size(), 3U);
      if (kept[layer].size() == 3) continue;
      for (const int32_t group : kept[layer]) {
        least_left = std::min(least_left, order.scores[layer][static_cast<size_t>(group)]);
      }
    }
    EXPECT_LE(most_removed, least_left) << seed;
  }
}

TEST(SelectGroupsByLayer, KeepsAmongMoreWhatItKeepsAmongFewerUnderTheSameGuards) {
  const GroupOrder order = CoarseOrder(12, 8, 7);
  for (int64_t kept = 5; kept < 8; ++kept) {  // nine layers can lose 4 of the 12, 24 and 36
    const auto few = Gone(order, SelectGroupsByLayer(order, kept + 1));
    const auto more = Gone(order, SelectGroupsByLayer(order, kept));
    EXPECT_TRUE(std::includes(more.begin(), more.end(), few.begin(), few.end())) << kept;
  }
}

TEST(SelectGroupsByLayer, GivesUpTheFirstAndLastLayersWhereTheRestIsTooFew) {
  const GroupOrder order{.scores = {{1, 2, 3, 4}, {9, 9, 9, 9}, {8, 8, 8, 8}, {3, 5, 5, 1}},
                         .neuron_totals = {}};
  // Layer 2 alone could lose no more than two of four.
  EXPECT_EQ(Gone(order, SelectGroupsByLayer(order, 3)), (Units{{0, 0}, {0, 1}, {3, 0}, {3, 3}}));
}

TEST(SelectGroupsByLayer, IsUniformWhereHalfOfEachLayerIsTooFew) {
  for (const int64_t kept : {1, 2}) {
    const GroupOrder order = CoarseOrder(7, 5, 11);
    EXPECT_EQ(SelectGroupsByLayer(order, kept), SelectGroupsUniform(order, kept));
  }
}

TEST(RemovedScore, IsTheSumOfWhatGoes) {
  const GroupOrder order{.scores = {{1, 2, 4}, {8, 16, 32}}, .neuron_totals = {}};
  EXPECT_EQ(RemovedScore(order, {{0, 1, 2}, {0, 1, 2}}), 0);
  EXPECT_EQ(RemovedScore(order, {{1}, {0, 2}}), 1 + 4 + 16);
  EXPECT_EQ(RemovedScore(order, {{0, 2}, {}}), 2 + 8 + 16 + 32);
}

TEST(KeptAttentionOf, IsTheRowsOfTheGroupsHeads) {
  const std::vector<KeptAttention> kept = KeptAttentionOf(kHeads, {{0, 2}, {}});
  ASSERT_THAT(kept, SizeIs(2));
  EXPECT_THAT(kept[0].key, ElementsAre(0, 1, 4, 5));
  EXPECT_EQ(kept[0].value, kept[0].key);
  EXPECT_THAT(kept[0].query, ElementsAre(0, 1, 2, 3, 8, 9, 10, 11));
  EXPECT_EQ(kept[0].output, kept[0].query);
  EXPECT_EQ(kept[1], KeptAttention{});
}

TEST(WholeGroups, AreThoseThatTheRowsAreOf) {
  for (const AttentionHeads& heads :
       {kHeads, AttentionHeads{.heads = 3, .kv_heads = 3, .head_dim = 1},
        AttentionHeads{.heads = 9, .kv_heads = 3, .head_dim = 64}}) {
    const Groups groups = {{0, 1, 2}, {1}, {}, {0, 2}, {1, 2}};
    ASSERT_OK_AND_ASSIGN(const Groups found, WholeGroups(heads, KeptAttentionOf(heads, groups)));
    EXPECT_EQ(found, groups);
  }
}

TEST(WholeGroups, RefuseRowsThatAreNotOfWholeGroupsAndNameTheLayer) {
  const std::vector<std::vector<int32_t>> not_whole = {
      {0}, {1, 2}, {0, 1, 2}, {1, 0}, {0, 1, 0, 1}, {2, 3, 0, 1}, {0, 0, 1, 1}, {6, 7}, {-2, -1}};
  for (const std::vector<int32_t>& rows : not_whole) {
    for (const auto& [name, projection] :
         {std::pair{"k_proj", &KeptAttention::key}, std::pair{"v_proj", &KeptAttention::value}}) {
      std::vector<KeptAttention> kept = KeptAttentionOf(kHeads, {{0, 1, 2}, {0}});
      kept[1].*projection = rows;
      EXPECT_THAT(WholeGroups(kHeads, kept),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr("layer 1"), HasSubstr(name), HasSubstr("not whole"))));
    }
  }
  // A query head alone of the two that read a key head.
  std::vector<KeptAttention> kept = KeptAttentionOf(kHeads, {{0, 1, 2}, {0}});
  kept[1].query = {0, 1};
  EXPECT_THAT(WholeGroups(kHeads, kept),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 1"), HasSubstr("q_proj"), HasSubstr("not whole"))));
}

TEST(WholeGroups, RefuseOtherGroupsInAnyProjectionAndNameTheLayer) {
  for (const auto projection :
       {&KeptAttention::query, &KeptAttention::value, &KeptAttention::output}) {
    std::vector<KeptAttention> kept = KeptAttentionOf(kHeads, {{0, 1}, {0, 2}});
    kept[1].*projection = kept[0].*projection;
    EXPECT_THAT(WholeGroups(kHeads, kept),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("layer 1"), HasSubstr("other KV head groups"))));
  }
}

}  // namespace
}  // namespace secateur
