#include "server/mask/weighted_views.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

absl::Status CheckWeights(const std::vector<WeightedView>& views) {
  double sum = 0;
  for (size_t i = 0; i < views.size(); ++i) {
    if (!(views[i].weight > 0) || !std::isfinite(views[i].weight)) {
      return absl::InvalidArgumentError(StrCat("the weight of view ", i, " is ", views[i].weight,
                                               "; weights are positive and finite"));
    }
    sum += views[i].weight;
  }
  if (!std::isfinite(sum)) {
    return absl::InvalidArgumentError("the sum of the weights is not finite: scale them down");
  }
  return absl::OkStatus();
}

// By size, then bytes: an order of any content, a NaN too. Below, at or above 0.
int CompareBytes(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  return a.empty() ? 0 : std::memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

int CompareContent(const RelevanceView::Layer& a, const RelevanceView::Layer& b) {
  if (const int order = CompareBytes(a.relevance, b.relevance); order != 0) return order;
  if (const int order = CompareBytes(a.group_score, b.group_score); order != 0) return order;
  const auto x = std::bit_cast<uint64_t>(a.score_total), y = std::bit_cast<uint64_t>(b.score_total);
  return x == y ? 0 : x < y ? -1 : 1;
}

bool ComesBefore(const WeightedView& a, const WeightedView& b) {
  if (a.weight != b.weight) return a.weight < b.weight;
  if (a.view == b.view) return false;
  for (size_t l = 0; l < a.view->layers.size(); ++l) {
    const int order = CompareContent(a.view->layers[l], b.view->layers[l]);
    if (order != 0) return order < 0;
  }
  return false;
}

}  // namespace

absl::Status CheckViews(const std::vector<WeightedView>& views) {
  if (views.empty()) return absl::InvalidArgumentError("composing needs at least one view");
  for (const WeightedView& weighted : views) {
    if (weighted.view == nullptr) return absl::InvalidArgumentError("a view to compose is null");
  }
  const size_t layers = views.front().view->layers.size();
  for (size_t i = 0; i < views.size(); ++i) {
    if (views[i].view->layers.size() != layers) {
      return absl::InvalidArgumentError(StrCat("view ", i, " has ", views[i].view->layers.size(),
                                               " layers, view 0 has ", layers));
    }
  }
  return CheckWeights(views);
}

std::vector<WeightedView> Normalised(std::vector<WeightedView> views) {
  std::sort(views.begin(), views.end(), ComesBefore);
  double sum = 0;
  for (const WeightedView& weighted : views) sum += weighted.weight;
  for (WeightedView& weighted : views) weighted.weight /= sum;
  return views;
}

}  // namespace secateur
