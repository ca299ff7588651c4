#include "server/mask/compose.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/mask/for_each_layer.h"

namespace secateur {
namespace {

// Ranks and channels are 16 bits (Profile::Empty).
constexpr size_t kMostNeurons = 65'536;

// The sign of a float: no relevance has it.
constexpr uint32_t kProtectedBit = 0x8000'0000u;

// Channels handled at once: their sums stay in the first-level cache, and a trip count known to the
// compiler lets it use vector instructions.
constexpr size_t kBlock = 256;

// Calls `block(begin, count)` for [0, size) in blocks; count is a constant but for the last one.
template <class Block>
void ForEachBlock(size_t size, Block block) {
  size_t begin = 0;
  for (; begin + kBlock <= size; begin += kBlock) {
    block(begin, std::integral_constant<size_t, kBlock>());
  }
  if (begin < size) block(begin, size - begin);
}

absl::Status CheckShapes(const std::vector<WeightedView>& views) {
  const RelevanceView& first = *views.front().view;
  const size_t width = first.layers.empty() ? 0 : first.layers[0].relevance.size();
  if (width == 0 || width > kMostNeurons) {
    return absl::InvalidArgumentError(
        StrCat("view 0 has ", first.layers.size(), " layers of ", width,
               " neurons; composing needs at least one layer and 1 to ", kMostNeurons, " neurons"));
  }
  for (size_t i = 0; i < views.size(); ++i) {
    const RelevanceView& view = *views[i].view;
    for (size_t l = 0; l < view.layers.size(); ++l) {
      const RelevanceView::Layer& layer = view.layers[l];
      if (layer.relevance.size() != width || layer.max_rank.size() != width) {
        return absl::InvalidArgumentError(StrCat("view ", i, ", layer ", l, " has ",
                                                 layer.relevance.size(), " relevance scores and ",
                                                 layer.max_rank.size(), " ranks, not ", width));
      }
      const std::vector<uint16_t>& channels = layer.protected_channels;
      if (!channels.empty() && *std::max_element(channels.begin(), channels.end()) >= width) {
        return absl::InvalidArgumentError(
            StrCat("view ", i, ", layer ", l, " protects a channel past its ", width, " neurons"));
      }
    }
  }
  return absl::OkStatus();
}

// sums[k] += weight * relevance[k]. The highest bit of what is returned is set when a score is
// negative (its sign) or not finite (an exponent of all ones carries into the sign).
template <class Count>
uint32_t AddWeighted(double weight, const float* relevance, Count count, double* sums) {
  uint32_t seen = 0;
  for (size_t k = 0; k < count; ++k) {
    const auto bits = std::bit_cast<uint32_t>(relevance[k]);
    seen |= bits | (bits + 0x0080'0000u);
  }
  for (size_t k = 0; k < count; ++k) sums[k] += weight * static_cast<double>(relevance[k]);
  return seen;
}

// Of one layer. False when a relevance is negative or not finite.
bool MeanKeys(const std::vector<WeightedView>& terms, size_t layer, uint32_t* keys) {
  uint32_t seen = 0;
  ForEachBlock(terms[0].view->layers[layer].relevance.size(), [&](size_t begin, auto count) {
    double sums[kBlock] = {};
    for (const WeightedView& term : terms) {
      const float* relevance = term.view->layers[layer].relevance.data() + begin;
      seen |= AddWeighted(term.weight, relevance, count, sums);
    }
    float means[kBlock];
    for (size_t k = 0; k < count; ++k) means[k] = static_cast<float>(sums[k]);
    std::memcpy(keys + begin, means, count * sizeof(float));
  });
  return (seen & 0x8000'0000u) == 0;
}

template <class Count>
void TakeLarger(const uint16_t* __restrict other, Count count, uint16_t* __restrict ranks) {
  for (size_t k = 0; k < count; ++k) ranks[k] = ranks[k] > other[k] ? ranks[k] : other[k];
}

// Of one layer. False when a rank is not below the number of neurons.
bool CusPrunKeys(const std::vector<WeightedView>& views, size_t layer, uint32_t* keys) {
  const size_t width = views[0].view->layers[layer].max_rank.size();
  uint16_t largest[kBlock] = {};
  ForEachBlock(width, [&](size_t begin, auto count) {
    uint16_t ranks[kBlock] = {};
    for (const WeightedView& weighted : views) {
      TakeLarger(weighted.view->layers[layer].max_rank.data() + begin, count, ranks);
    }
    TakeLarger(ranks, count, largest);
    uint32_t block[kBlock];
    const auto channel = static_cast<uint32_t>(begin);
    for (uint32_t k = 0; k < count; ++k) block[k] = uint32_t{ranks[k]} << 16 | (channel + k);
    std::memcpy(keys + begin, block, count * sizeof(uint32_t));
  });
  return *std::max_element(std::begin(largest), std::end(largest)) < width;
}

// Union over views of the protected channels of one layer.
std::vector<uint16_t> ProtectedChannels(const std::vector<WeightedView>& views, size_t layer) {
  std::vector<uint16_t> all;
  for (const WeightedView& weighted : views) {
    const auto& channels = weighted.view->layers[layer].protected_channels;
    all.insert(all.end(), channels.begin(), channels.end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

// What is wrong with the first value of `layer` that should not be there.
absl::Status BadValue(Rule rule, const std::vector<WeightedView>& views, size_t layer) {
  for (size_t i = 0; i < views.size(); ++i) {
    const RelevanceView::Layer& values = views[i].view->layers[layer];
    for (size_t k = 0; k < values.relevance.size(); ++k) {
      const std::string where = StrCat("view ", i, ", layer ", layer, ", channel ", k);
      const float relevance = values.relevance[k];
      if (rule == Rule::kMean && (std::signbit(relevance) || !std::isfinite(relevance))) {
        return absl::InvalidArgumentError(
            StrCat(where, ": the relevance is ", relevance, ", not a finite number of at least 0"));
      }
      if (rule == Rule::kCusPrun && values.max_rank[k] >= values.max_rank.size()) {
        return absl::InvalidArgumentError(StrCat(where, ": the rank is ", values.max_rank[k],
                                                 " among ", values.max_rank.size(), " neurons"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RemovalOrder> Compose(Rule rule, const std::vector<WeightedView>& views,
                                     int threads) {
  RETURN_IF_ERROR(CheckViews(views));
  RETURN_IF_ERROR(CheckShapes(views));
  const std::vector<WeightedView> terms = Normalised(views);
  const RelevanceView& first = *views.front().view;
  RemovalOrder order;
  order.rule = rule;
  order.layers.resize(first.layers.size());
  order.protected_channels.resize(first.layers.size());
  if (rule == Rule::kMean) {
    for (size_t layer = 0; layer < order.layers.size(); ++layer) {
      order.protected_channels[layer] = ProtectedChannels(views, layer);
    }
  }
  std::atomic<size_t> bad_layer{std::numeric_limits<size_t>::max()};
  ForEachLayer(order.layers.size(), threads, [&] {
    return [&](size_t layer) {
      std::vector<uint32_t>& keys = order.layers[layer];
      keys.resize(first.layers[layer].relevance.size());
      const bool good = rule == Rule::kMean ? MeanKeys(terms, layer, keys.data())
                                            : CusPrunKeys(views, layer, keys.data());
      if (!good) bad_layer = layer;
      for (const uint16_t channel : order.protected_channels[layer]) {
        keys[channel] |= kProtectedBit;
      }
    };
  });
  if (bad_layer < order.layers.size()) return BadValue(rule, views, bad_layer);
  return order;
}

}  // namespace secateur
