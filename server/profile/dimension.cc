#include "server/profile/dimension.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <string_view>
#include <utility>

#include "server/base/strings.h"

namespace secateur {
namespace {

using Layers = std::vector<RelevanceView::Layer>;

bool SameShape(const Layers& a, const Layers& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.relevance.size() == y.relevance.size() && x.max_rank.size() == y.max_rank.size() &&
           x.half.size() == y.half.size() && x.group_score.size() == y.group_score.size();
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

template <class Sum>
std::vector<float> Scaled(const std::vector<Sum>& sums, double unit, double shift = 0) {
  std::vector<float> scaled(sums.size());
  std::transform(sums.begin(), sums.end(), scaled.begin(), [&](Sum sum) {
    return static_cast<float>(shift + static_cast<double>(sum) * unit);
  });
  return scaled;
}

// The mean over `documents` documents, one entry a neuron.
std::vector<float> Relevance(const LayerStatistics& statistics, Statistic statistic,
                             double documents) {
  switch (statistic) {
    case Statistic::kPaper:
      return Scaled(statistics.paper_normalized, kScoreUnit / documents);
    case Statistic::kLogRelative:
      return Scaled(statistics.log_score, kLogUnit / documents, kLogShift);
    case Statistic::kRank:
      return Scaled(statistics.rank, 1 / (documents * static_cast<double>(statistics.rank.size())));
    case Statistic::kRelative:
      break;
  }
  return Scaled(statistics.normalized, kScoreUnit / documents);
}

// How many of a neuron's ranks may lie above the one that the quantile names.
size_t RanksAbove(double quantile, int64_t documents) {
  // 0.95 of 20 documents is 19, whatever the product rounds to.
  constexpr double kRounding = 1e-9;
  const double within = std::ceil(quantile * static_cast<double>(documents) * (1 - kRounding));
  return static_cast<size_t>(std::max<int64_t>(documents - static_cast<int64_t>(within), 0));
}

RelevanceView::Layer MergeLayer(const std::vector<const RelevanceView*>& corpora, double total,
                                size_t layer) {
  const size_t width = corpora[0]->layers[layer].relevance.size();
  std::vector<double> relevance(width), half(corpora[0]->layers[layer].half.size());
  std::vector<double> groups(corpora[0]->layers[layer].group_score.size());
  RelevanceView::Layer merged;
  merged.max_rank.resize(width);
  for (const RelevanceView* corpus : corpora) {
    const RelevanceView::Layer& from = corpus->layers[layer];
    const double weight = Weight(*corpus) / total;
    for (size_t k = 0; k < width; ++k) {
      relevance[k] += weight * from.relevance[k];
      merged.max_rank[k] = std::max(merged.max_rank[k], from.max_rank[k]);
    }
    for (size_t k = 0; k < half.size(); ++k) half[k] += weight * from.half[k];
    for (size_t g = 0; g < groups.size(); ++g) groups[g] += weight * from.group_score[g];
    merged.score_total += weight * from.score_total;
    merged.protected_channels = UnionOf(merged.protected_channels, from.protected_channels);
  }
  merged.relevance = Narrow(relevance);
  merged.half = Narrow(half);
  merged.group_score = Narrow(groups);
  return merged;
}

AttentionRanks RanksOf(const AttentionStatistics& statistics, size_t above) {
  AttentionRanks ranks;
  const absl::Status visited = ForEachAttentionSet([&](std::string_view, auto set) {
    const std::vector<uint16_t>& rows = set(statistics);
    for (size_t row = 0; row < rows.size(); row += kTopRanks) {
      set(ranks).push_back(rows[row + above]);
    }
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
    total += static_cast<int64_t>(
        (layer.relevance.size() + layer.half.size() + layer.group_score.size()) * sizeof(float) +
        (layer.max_rank.size() + layer.protected_channels.size()) * sizeof(uint16_t));
  }
  return total;
}

double LeastQuantile(int64_t documents) {
  return documents <= kTopRanks
             ? 0
             : static_cast<double>(documents - kTopRanks + 1) / static_cast<double>(documents);
}

void TakeLarger(const AttentionRanks& other, AttentionRanks& ranks) {
  const absl::Status visited = ForEachAttentionSet([&](std::string_view, auto set) {
    std::transform(set(ranks).begin(), set(ranks).end(), set(other).begin(), set(ranks).begin(),
                   [](uint16_t a, uint16_t b) { return std::max(a, b); });
    return absl::OkStatus();
  });
}

RelevanceView ViewOf(const Profile& profile, const ViewOptions& options) {
  RelevanceView view;
  view.documents = profile.documents;
  view.tokens = profile.tokens;
  view.layers.reserve(profile.layers.size());
  // A profile without documents has sums of 0 and so a relevance of 0.
  const auto documents = static_cast<double>(std::max<int64_t>(profile.documents, 1));
  if (options.statistic == Statistic::kRelative) {
    view.half_share = static_cast<double>(profile.half_documents) / documents;
  }
  const size_t above = RanksAbove(options.quantile, profile.documents);
  for (const LayerStatistics& statistics : profile.layers) {
    const size_t width = statistics.normalized.size();
    RelevanceView::Layer layer{
        .relevance = Relevance(statistics, options.statistic, documents),
        .max_rank = std::vector<uint16_t>(width),
        .protected_channels = {},
        .half = {},
        .group_score = Scaled(statistics.group_score, kScoreUnit / documents),
        .score_total = std::accumulate(statistics.score.begin(), statistics.score.end(), 0.0) *
                       kScoreUnit / documents};
    for (size_t k = 0; k < width; ++k) {
      layer.max_rank[k] = statistics.top_ranks[k * kTopRanks + above];
      if (statistics.IsProtected(k)) layer.protected_channels.push_back(static_cast<uint16_t>(k));
    }
    if (options.statistic == Statistic::kRelative) {
      layer.half = Scaled(statistics.half_normalized, kScoreUnit / documents);
    }
    view.layers.push_back(std::move(layer));
  }
  view.heads = profile.attention.heads;
  for (const AttentionStatistics& layer : profile.attention.layers) {
    view.attention.push_back(RanksOf(layer, above));
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
