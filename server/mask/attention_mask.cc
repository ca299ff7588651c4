#include "server/mask/attention_mask.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/mask/strict_set.h"

namespace secateur {
namespace {

absl::Status CheckView(const RelevanceView& view, const RelevanceView& first, size_t index) {
  if (view.attention.empty()) {
    return absl::InvalidArgumentError(StrCat("view ", index, " has no ranks of attention"));
  }
  if (view.heads != first.heads || view.attention.size() != first.attention.size()) {
    return absl::InvalidArgumentError(
        StrCat("view ", index, " has ranks of other heads or layers than view 0"));
  }
  const AttentionSets<int64_t> units = UnitsOf(view.heads);
  for (size_t layer = 0; layer < view.attention.size(); ++layer) {
    RETURN_IF_ERROR(ForEachAttentionSet([&](std::string_view name, auto set) {
      const std::vector<uint16_t>& ranks = set(view.attention[layer]);
      const auto wanted = static_cast<size_t>(set(units));
      const bool ranked = std::all_of(ranks.begin(), ranks.end(),
                                      [wanted](uint16_t rank) { return rank < wanted; });
      if (ranks.size() == wanted && ranked) return absl::OkStatus();
      return absl::InvalidArgumentError(StrCat("view ", index, ", layer ", layer, ", set \"", name,
                                               "\": ", ranks.size(), " ranks for ", wanted,
                                               " units, each to be below that"));
    }));
  }
  return absl::OkStatus();
}

// Units of one set that stay.
std::vector<int32_t> Kept(const std::vector<uint16_t>& ranks, double sigma) {
  const int64_t irrelevant = IrrelevantRanks(ranks.size(), sigma);
  std::vector<int32_t> kept;
  for (size_t unit = 0; unit < ranks.size(); ++unit) {
    if (ranks[unit] >= irrelevant) kept.push_back(static_cast<int32_t>(unit));
  }
  return kept;
}

// Rows of projections of `heads` whose pair of the KV head they belong to stays.
std::vector<int32_t> PairRows(const std::vector<int32_t>& pairs, const AttentionHeads& shape,
                              int64_t heads) {
  const int64_t half = shape.head_dim / 2;
  std::vector<bool> stays(static_cast<size_t>(shape.kv_heads * half));
  for (const int32_t pair : pairs) stays[static_cast<size_t>(pair)] = true;
  const int64_t group = heads / shape.kv_heads;
  std::vector<int32_t> rows;
  for (int64_t row = 0; row < heads * shape.head_dim; ++row) {
    const int64_t kv_head = row / shape.head_dim / group;
    const int64_t pair = row % shape.head_dim % half;
    if (stays[static_cast<size_t>(kv_head * half + pair)]) {
      rows.push_back(static_cast<int32_t>(row));
    }
  }
  return rows;
}

}  // namespace

absl::StatusOr<AttentionOrder> ComposeAttention(const std::vector<WeightedView>& views) {
  if (views.empty()) return absl::InvalidArgumentError("composing needs at least one view");
  for (size_t i = 0; i < views.size(); ++i) {
    RETURN_IF_ERROR(CheckView(*views[i].view, *views[0].view, i));
  }
  AttentionOrder order{.heads = views[0].view->heads, .layers = views[0].view->attention};
  for (const WeightedView& weighted : views) {
    for (size_t layer = 0; layer < order.layers.size(); ++layer) {
      TakeLarger(weighted.view->attention[layer], order.layers[layer]);
    }
  }
  return order;
}

absl::StatusOr<std::vector<KeptAttention>> SelectAttention(const AttentionOrder& order,
                                                           double sigma) {
  std::vector<KeptAttention> kept;
  for (size_t layer = 0; layer < order.layers.size(); ++layer) {
    AttentionSets<std::vector<int32_t>> stays;
    RETURN_IF_ERROR(ForEachAttentionSet([&](std::string_view name, auto set) {
      const std::vector<uint16_t>& ranks = set(order.layers[layer]);
      set(stays) = Kept(ranks, sigma);
      if (!set(stays).empty()) return absl::OkStatus();
      return absl::OutOfRangeError(absl::StrFormat(
          "at sigma %g every unit of the attention set \"%s\" of layer %d is irrelevant: at most "
          "%.17g leaves one",
          sigma, name, layer,
          LargestStrictSigma(*std::max_element(ranks.begin(), ranks.end()), ranks.size())));
    }));
    kept.push_back({.query = PairRows(stays.query_key, order.heads, order.heads.heads),
                    .key = PairRows(stays.query_key, order.heads, order.heads.kv_heads),
                    .value = std::move(stays.value),
                    .output = std::move(stays.output)});
  }
  return kept;
}

}  // namespace secateur
