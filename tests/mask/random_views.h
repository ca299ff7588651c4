// Views with random content, for comparing with slow definitions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "server/mask/compose.h"

namespace secateur {

// `relevance()` gives each score; ranks are a random permutation in each layer.
inline RelevanceView MakeView(size_t layers, size_t width, std::mt19937& random,
                              const std::function<float()>& relevance) {
  RelevanceView view;
  view.documents = 1;
  view.tokens = 1;
  view.layers.resize(layers);
  for (RelevanceView::Layer& layer : view.layers) {
    layer.relevance.resize(width);
    std::generate(layer.relevance.begin(), layer.relevance.end(), relevance);
    layer.max_rank.resize(width);
    std::iota(layer.max_rank.begin(), layer.max_rank.end(), uint16_t{0});
    std::shuffle(layer.max_rank.begin(), layer.max_rank.end(), random);
  }
  return view;
}

// Scores spread over many orders of magnitude, as real ones are.
inline RelevanceView RandomView(size_t layers, size_t width, std::mt19937& random) {
  std::lognormal_distribution<float> scores(-8.0f, 2.0f);
  return MakeView(layers, width, random, [&] { return scores(random); });
}

// Multiples of 1/8 up to 2: many ties, and sums with dyadic weights are exact.
inline RelevanceView CoarseView(size_t layers, size_t width, std::mt19937& random) {
  std::uniform_int_distribution<int> eighths(0, 16);
  return MakeView(layers, width, random,
                  [&] { return static_cast<float>(eighths(random)) / 8.0f; });
}

// The channels of one layer in the order of removal, by sorting: ascending (value, channel), or
// of equal values the higher channel first.
template <class Value>
std::vector<int32_t> SortedByRemoval(const std::vector<Value>& values, bool lower_channel_first) {
  std::vector<int32_t> channels(values.size());
  std::iota(channels.begin(), channels.end(), 0);
  std::sort(channels.begin(), channels.end(), [&](int32_t a, int32_t b) {
    const Value x = values[static_cast<size_t>(a)];
    const Value y = values[static_cast<size_t>(b)];
    if (x != y) return x < y;
    return lower_channel_first ? a < b : a > b;
  });
  return channels;
}

// What stays of `removal_order` when `width` channels stay.
inline std::vector<int32_t> KeptOf(const std::vector<int32_t>& removal_order, size_t width) {
  std::vector<int32_t> kept(removal_order.end() - static_cast<ptrdiff_t>(width),
                            removal_order.end());
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace secateur
