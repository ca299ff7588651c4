#include "server/mask/group_mask.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr size_t kGuardedFirst = 2;
constexpr size_t kGuardedLast = 1;

absl::Status CheckScore(std::string_view what, size_t view, size_t layer, double score) {
  if (std::isfinite(score) && score >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("view ", view, ", layer ", layer, ": ", what, " is ",
                                           score, ", not a finite number of at least 0"));
}

absl::Status CheckLayer(const RelevanceView::Layer& values, size_t groups, size_t view,
                        size_t layer) {
  if (values.group_score.size() != groups || groups == 0) {
    return absl::InvalidArgumentError(StrCat("view ", view, ", layer ", layer, " has scores of ",
                                             values.group_score.size(),
                                             " KV head groups, layer 0 of view 0 of ", groups,
                                             "; composing needs the same number, at least 1"));
  }
  for (size_t group = 0; group < groups; ++group) {
    RETURN_IF_ERROR(CheckScore(StrCat("the score of group ", group), view, layer,
                               static_cast<double>(values.group_score[group])));
  }
  return CheckScore("the total of all neurons", view, layer, values.score_total);
}

absl::Status CheckGroups(const std::vector<WeightedView>& views) {
  const std::vector<RelevanceView::Layer>& first = views.front().view->layers;
  if (first.empty()) return absl::InvalidArgumentError("view 0 has no layers");
  for (size_t i = 0; i < views.size(); ++i) {
    for (size_t layer = 0; layer < first.size(); ++layer) {
      RETURN_IF_ERROR(
          CheckLayer(views[i].view->layers[layer], first[0].group_score.size(), i, layer));
    }
  }
  return absl::OkStatus();
}

struct Unit {
  double score;
  size_t layer, group;
};

// Of equal scores the later layer's goes first, in a layer that of the higher group.
bool GoesBefore(const Unit& a, const Unit& b) {
  if (a.score != b.score) return a.score < b.score;
  return std::pair(a.layer, a.group) > std::pair(b.layer, b.group);
}

std::vector<Unit> RemovalOrderOf(const GroupOrder& order) {
  std::vector<Unit> units;
  for (size_t layer = 0; layer < order.scores.size(); ++layer) {
    for (size_t group = 0; group < order.scores[layer].size(); ++group) {
      units.push_back({order.scores[layer][group], layer, group});
    }
  }
  std::sort(units.begin(), units.end(), GoesBefore);
  return units;
}

// What stays when `removed` of the first units go, of each layer at most `most[layer]`; nothing
// where that is not enough.
std::optional<std::vector<std::vector<int32_t>>> Remove(const GroupOrder& order, size_t removed,
                                                        std::vector<size_t> most) {
  if (std::accumulate(most.begin(), most.end(), size_t{0}) < removed) return std::nullopt;
  std::vector<std::vector<bool>> goes;
  for (const auto& scores : order.scores) goes.emplace_back(scores.size());
  for (const Unit& unit : RemovalOrderOf(order)) {
    if (removed == 0) break;
    if (most[unit.layer] == 0) continue;
    goes[unit.layer][unit.group] = true;
    --most[unit.layer];
    --removed;
  }
  std::vector<std::vector<int32_t>> kept(goes.size());
  for (size_t layer = 0; layer < goes.size(); ++layer) {
    for (size_t group = 0; group < goes[layer].size(); ++group) {
      if (!goes[layer][group]) kept[layer].push_back(static_cast<int32_t>(group));
    }
  }
  return kept;
}

std::vector<size_t> WithGuardedEnds(std::vector<size_t> most) {
  const size_t layers = most.size();
  for (size_t layer = 0; layer < layers; ++layer) {
    if (layer < kGuardedFirst || layer + kGuardedLast >= layers) most[layer] = 0;
  }
  return most;
}

// Rows of the groups, `rows` of each.
std::vector<int32_t> RowsOf(const std::vector<int32_t>& groups, int64_t rows) {
  std::vector<int32_t> all;
  for (const int32_t group : groups) {
    for (int64_t row = 0; row < rows; ++row) {
      all.push_back(static_cast<int32_t>(group * rows + row));
    }
  }
  return all;
}

// The groups that `kept` holds rows of, each once; RowsOf() tells whether that is all of them.
std::vector<int32_t> GroupsOf(const std::vector<int32_t>& kept, int64_t rows) {
  std::vector<int32_t> groups;
  for (const int32_t row : kept) {
    const auto group = static_cast<int32_t>(row / rows);
    if (groups.empty() || groups.back() != group) groups.push_back(group);
  }
  return groups;
}

bool Ascend(const std::vector<int32_t>& groups, int64_t count) {
  const bool inside = groups.empty() || (groups.front() >= 0 && groups.back() < count);
  return inside && std::is_sorted(groups.begin(), groups.end());
}

absl::StatusOr<std::vector<int32_t>> WholeGroupsOf(const AttentionHeads& heads,
                                                   const KeptAttention& kept) {
  const int64_t query_rows = heads.heads / heads.kv_heads * heads.head_dim;
  std::vector<int32_t> groups = GroupsOf(kept.key, heads.head_dim);
  const struct {
    std::string_view name;
    const std::vector<int32_t>& rows;
    int64_t count;  // of a group
  } projections[] = {{"k", kept.key, heads.head_dim},
                     {"v", kept.value, heads.head_dim},
                     {"q", kept.query, query_rows},
                     {"o", kept.output, query_rows}};
  for (const auto& [name, rows, count] : projections) {
    const std::vector<int32_t> own = GroupsOf(rows, count);
    if (!Ascend(own, heads.kv_heads) || RowsOf(own, count) != rows) {
      return absl::InvalidArgumentError(
          StrCat("what stays of ", name, "_proj is not whole KV head groups, ascending"));
    }
    if (own != groups) {
      return absl::InvalidArgumentError(
          StrCat("other KV head groups stay in ", name, "_proj than in k_proj"));
    }
  }
  return groups;
}

}  // namespace

absl::StatusOr<GroupOrder> ComposeGroups(const std::vector<WeightedView>& views) {
  RETURN_IF_ERROR(CheckViews(views));
  RETURN_IF_ERROR(CheckGroups(views));
  const std::vector<RelevanceView::Layer>& first = views.front().view->layers;
  GroupOrder order{.scores = {}, .neuron_totals = std::vector<double>(first.size())};
  order.scores.assign(first.size(), std::vector<double>(first[0].group_score.size()));
  for (const WeightedView& term : Normalised(views)) {
    for (size_t layer = 0; layer < first.size(); ++layer) {
      const RelevanceView::Layer& values = term.view->layers[layer];
      for (size_t group = 0; group < values.group_score.size(); ++group) {
        order.scores[layer][group] += term.weight * static_cast<double>(values.group_score[group]);
      }
      order.neuron_totals[layer] += term.weight * values.score_total;
    }
  }
  return order;
}

std::vector<std::vector<int32_t>> SelectGroupsUniform(const GroupOrder& order, int64_t kept) {
  std::vector<std::vector<int32_t>> all;
  for (const std::vector<double>& scores : order.scores) {
    std::vector<int32_t> groups(scores.size());
    std::iota(groups.begin(), groups.end(), 0);
    std::stable_sort(groups.begin(), groups.end(), [&scores](int32_t a, int32_t b) {
      return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
    });
    groups.resize(static_cast<size_t>(kept));
    std::sort(groups.begin(), groups.end());
    all.push_back(std::move(groups));
  }
  return all;
}

std::vector<std::vector<int32_t>> SelectGroupsByLayer(const GroupOrder& order, int64_t kept) {
  std::vector<size_t> half;  // of each layer, rounded down
  size_t removed = 0;
  for (const std::vector<double>& scores : order.scores) {
    half.push_back(scores.size() / 2);
    removed += scores.size() - static_cast<size_t>(kept);
  }
  if (auto stays = Remove(order, removed, WithGuardedEnds(half))) return *std::move(stays);
  if (auto stays = Remove(order, removed, half)) return *std::move(stays);
  return SelectGroupsUniform(order, kept);
}

std::vector<KeptAttention> KeptAttentionOf(const AttentionHeads& heads,
                                           const std::vector<std::vector<int32_t>>& groups) {
  const int64_t query_rows = heads.heads / heads.kv_heads * heads.head_dim;
  std::vector<KeptAttention> kept;
  for (const std::vector<int32_t>& layer : groups) {
    kept.push_back({.query = RowsOf(layer, query_rows),
                    .key = RowsOf(layer, heads.head_dim),
                    .value = RowsOf(layer, heads.head_dim),
                    .output = RowsOf(layer, query_rows)});
  }
  return kept;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> WholeGroups(
    const AttentionHeads& heads, const std::vector<KeptAttention>& kept) {
  std::vector<std::vector<int32_t>> groups;
  for (size_t layer = 0; layer < kept.size(); ++layer) {
    absl::StatusOr<std::vector<int32_t>> whole = WholeGroupsOf(heads, kept[layer]);
    if (!whole.ok()) return Annotate(whole.status(), StrCat("layer ", layer));
    groups.push_back(*std::move(whole));
  }
  return groups;
}

double RemovedScore(const GroupOrder& order, const std::vector<std::vector<int32_t>>& kept) {
  double removed = 0;
  for (size_t layer = 0; layer < kept.size(); ++layer) {
    const std::vector<double>& scores = order.scores[layer];
    for (size_t group = 0; group < scores.size(); ++group) {
      const bool stays =
          std::binary_search(kept[layer].begin(), kept[layer].end(), static_cast<int32_t>(group));
      if (!stays) removed += scores[group];
    }
  }
  return removed;
}

}  // namespace secateur
