#include "server/profile/dimension.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "server/base/strings.h"

namespace secateur {
namespace {

using Layers = std::vector<RelevanceView::Layer>;

bool SameShape(const Layers& a, const Layers& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.relevance.size() == y.relevance.size() && x.max_rank.size() == y.max_rank.size() &&
           x.half.size() == y.half.size();
  });
}

double Weight(const RelevanceView& view) {
  return static_cast<double>(std::min(view.documents, kCorpusWeightCap));
}

std::vector<float> Narrow(const std::vector<double>& values) {
  std::vector<float> narrow(values.size());
  std::transform(values.begin(), values.end(), narrow.begin(),
                 [](double value) { return static_cast<float>(value); });
  return narrow;
}

std::vector<uint16_t> UnionOf(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b) {
  std::vector<uint16_t> both;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

RelevanceView::Layer MergeLayer(const std::vector<const RelevanceView*>& corpora, double total,
                                size_t layer) {
  const size_t width = corpora[0]->layers[layer].relevance.size();
  std::vector<double> relevance(width), half(width);
  RelevanceView::Layer merged{.relevance = {},
                              .max_rank = std::vector<uint16_t>(width),
                              .protected_channels = {},
                              .half = {}};
  for (const RelevanceView* corpus : corpora) {
    const RelevanceView::Layer& from = corpus->layers[layer];
    const double weight = Weight(*corpus) / total;
    for (size_t k = 0; k < width; ++k) {
      relevance[k] += weight * from.relevance[k];
      half[k] += weight * from.half[k];
      merged.max_rank[k] = std::max(merged.max_rank[k], from.max_rank[k]);
    }
    merged.protected_channels = UnionOf(merged.protected_channels, from.protected_channels);
  }
  merged.relevance = Narrow(relevance);
  merged.half = Narrow(half);
  return merged;
}

AttentionRanks LargestRanks(const AttentionStatistics& statistics) {
  AttentionRanks ranks;
  const absl::Status visited = ForEachAttentionSet([&](std::string_view, auto set) {
    const std::vector<uint16_t>& rows = set(statistics);
    for (size_t row = 0; row < rows.size(); row += kTopRanks) set(ranks).push_back(rows[row]);
    return absl::OkStatus();
  });
  return ranks;
}

// Of all corpora, or nothing when one has none.
void MergeAttention(const std::vector<const RelevanceView*>& corpora, RelevanceView& merged) {
  const RelevanceView& first = *corpora[0];
  const bool all = std::all_of(corpora.begin(), corpora.end(), [&](const RelevanceView* corpus) {
    return !corpus->attention.empty() && corpus->heads == first.heads &&
           corpus->attention.size() == first.attention.size();
  });
  if (!all) return;
  merged.heads = first.heads;
  merged.attention = first.attention;
  for (const RelevanceView* corpus : corpora) {
    for (size_t layer = 0; layer < merged.attention.size(); ++layer) {
      TakeLarger(corpus->attention[layer], merged.attention[layer]);
    }
  }
}

}  // namespace

int64_t RelevanceView::bytes() const {
  int64_t total = 0;
  for (const AttentionRanks& layer : attention) {
    total += static_cast<int64_t>(
        (layer.output.size() + layer.value.size() + layer.query_key.size()) * sizeof(uint16_t));
  }
  for (const Layer& layer : layers) {
    total += static_cast<int64_t>((layer.relevance.size() + layer.half.size()) * sizeof(float) +
                                  (layer.max_rank.size() + layer.protected_channels.size()) *
                                      sizeof(uint16_t));
  }
  return total;
}

void TakeLarger(const AttentionRanks& other, AttentionRanks& ranks) {
  const absl::Status visited = ForEachAttentionSet([&](std::string_view, auto set) {
    std::transform(set(ranks).begin(), set(ranks).end(), set(other).begin(), set(ranks).begin(),
                   [](uint16_t a, uint16_t b) { return std::max(a, b); });
    return absl::OkStatus();
  });
}

RelevanceView ViewOf(const Profile& profile) {
  RelevanceView view;
  view.documents = profile.documents;
  view.tokens = profile.tokens;
  view.layers.reserve(profile.layers.size());
  // A profile without documents has sums of 0 and so a relevance of 0.
  const double unit = kScoreUnit / static_cast<double>(std::max<int64_t>(profile.documents, 1));
  view.half_share = static_cast<double>(profile.half_documents) /
                    static_cast<double>(std::max<int64_t>(profile.documents, 1));
  for (const LayerStatistics& statistics : profile.layers) {
    const size_t width = statistics.normalized.size();
    RelevanceView::Layer layer{.relevance = std::vector<float>(width),
                               .max_rank = std::vector<uint16_t>(width),
                               .protected_channels = {},
                               .half = std::vector<float>(width)};
    for (size_t k = 0; k < width; ++k) {
      layer.relevance[k] = static_cast<float>(static_cast<double>(statistics.normalized[k]) * unit);
      layer.half[k] = static_cast<float>(static_cast<double>(statistics.half_normalized[k]) * unit);
      layer.max_rank[k] = statistics.top_ranks[k * kTopRanks];
      if (statistics.IsProtected(k)) layer.protected_channels.push_back(static_cast<uint16_t>(k));
    }
    view.layers.push_back(std::move(layer));
  }
  view.heads = profile.attention.heads;
  for (const AttentionStatistics& layer : profile.attention.layers) {
    view.attention.push_back(LargestRanks(layer));
  }
  return view;
}

absl::StatusOr<RelevanceView> MergeViews(const std::vector<const RelevanceView*>& corpora) {
  if (corpora.empty()) return absl::InvalidArgumentError("no corpora to merge");
  RelevanceView merged;
  double total = 0;
  for (size_t i = 0; i < corpora.size(); ++i) {
    if (!SameShape(corpora[0]->layers, corpora[i]->layers)) {
      return absl::InvalidArgumentError(
          StrCat("corpus ", i, " has layers of other widths than corpus 0"));
    }
    if (corpora[i]->documents < 1) {
      return absl::InvalidArgumentError(StrCat("corpus ", i, " has no documents"));
    }
    merged.documents += corpora[i]->documents;
    merged.tokens += corpora[i]->tokens;
    total += Weight(*corpora[i]);
  }
  for (const RelevanceView* corpus : corpora) {
    merged.half_share += Weight(*corpus) / total * corpus->half_share;
  }
  for (size_t l = 0; l < corpora[0]->layers.size(); ++l) {
    merged.layers.push_back(MergeLayer(corpora, total, l));
  }
  MergeAttention(corpora, merged);
  return merged;
}

}  // namespace secateur
