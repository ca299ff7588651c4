// Selection on removal orders: a histogram of the keys' high bits finds the bucket that holds the
// wanted rank, and only that bucket's keys are partitioned.
#include <algorithm>
#include <array>
#include <cassert>

#include "server/mask/compose.h"
#include "server/mask/for_each_layer.h"
#include "server/mask/strict_set.h"

namespace secateur {
namespace {

// Of a float: sign, exponent and three bits of the fraction.
constexpr int kBucketBits = 12;
constexpr int kBucketShift = 32 - kBucketBits;

class Selector {
 public:
  struct Cut {
    uint32_t key = 0;  // of the wanted rank
    size_t below = 0;  // keys smaller than it
    size_t equal = 0;  // keys equal to it
  };

  // The key of `rank` < keys.size() in ascending order.
  Cut KeyOfRank(const std::vector<uint32_t>& keys, size_t rank) {
    counts_.fill({});
    // Two histograms in turn: neighbours often share a bucket and would wait for one another.
    const size_t pairs = keys.size() / 2 * 2;
    for (size_t k = 0; k < pairs; k += 2) {
      ++counts_[keys[k] >> kBucketShift][0];
      ++counts_[keys[k + 1] >> kBucketShift][1];
    }
    if (pairs < keys.size()) ++counts_[keys[pairs] >> kBucketShift][0];

    size_t before = 0;  // keys in lower buckets
    uint32_t bucket = 0;
    for (;; ++bucket) {
      const size_t count = counts_[bucket][0] + counts_[bucket][1];
      if (rank < before + count) break;
      before += count;
    }
    GatherBucket(keys, bucket);
    const auto nth = bucket_keys_.begin() + static_cast<ptrdiff_t>(rank - before);
    std::nth_element(bucket_keys_.begin(), nth, bucket_end_);
    Cut cut{*nth, before, 0};
    for (auto key = bucket_keys_.begin(); key != bucket_end_; ++key) {
      cut.below += *key < cut.key ? 1 : 0;
      cut.equal += *key == cut.key ? 1 : 0;
    }
    return cut;
  }

 private:
  void GatherBucket(const std::vector<uint32_t>& keys, uint32_t bucket) {
    bucket_keys_.resize(keys.size() + 1);  // one more: every key is written, few are kept
    size_t size = 0;
    for (const uint32_t key : keys) {
      bucket_keys_[size] = key;
      size += (key >> kBucketShift) == bucket ? 1 : 0;
    }
    bucket_end_ = bucket_keys_.begin() + static_cast<ptrdiff_t>(size);
  }

  std::array<std::array<uint32_t, 2>, size_t{1} << kBucketBits> counts_;
  std::vector<uint32_t> bucket_keys_;
  std::vector<uint32_t>::iterator bucket_end_;
};

// The first channel behind the first `ties` keys equal to the cut.
size_t BehindTies(const std::vector<uint32_t>& keys, uint32_t cut_key, size_t ties) {
  size_t k = 0;
  for (; ties > 0; ++k) ties -= keys[k] == cut_key ? 1 : 0;
  return k;
}

// Channels of the keys above the cut, and of the first of those equal to it, `width` in all.
std::vector<int32_t> KeptChannels(const std::vector<uint32_t>& keys, const Selector::Cut& cut,
                                  size_t width) {
  const size_t ties_removed = keys.size() - width - cut.below;
  const size_t ties_end =
      ties_removed == 0 ? keys.size() : BehindTies(keys, cut.key, cut.equal - ties_removed);
  std::vector<int32_t> kept(width);
  size_t size = 0;
  size_t k = 0;
  // No branch on the key, which would be mispredicted often: every channel is written, and
  // overwritten by the next if it does not stay.
  for (; k < ties_end && size < width; ++k) {
    kept[size] = static_cast<int32_t>(k);
    size += keys[k] >= cut.key ? 1 : 0;
  }
  for (; size < width; ++k) {
    kept[size] = static_cast<int32_t>(k);
    size += keys[k] > cut.key ? 1 : 0;
  }
  return kept;
}

uint32_t RankOf(uint32_t cus_prun_key) { return cus_prun_key >> 16; }

}  // namespace

Mask SelectUniform(const RemovalOrder& order, int64_t width, int threads) {
  Mask mask;
  mask.kept.resize(order.layers.size());
  ForEachLayer(order.layers.size(), threads, [&] {
    return [&, selector = Selector()](size_t layer) mutable {
      const std::vector<uint32_t>& keys = order.layers[layer];
      assert(width >= 1 && width <= static_cast<int64_t>(keys.size()));
      const auto wanted = static_cast<size_t>(width);
      const Selector::Cut cut = selector.KeyOfRank(keys, keys.size() - wanted);
      mask.kept[layer] = KeptChannels(keys, cut, wanted);
    };
  });
  return mask;
}

Mask SelectRelevant(const RemovalOrder& order, double sigma) {
  assert(order.rule == Rule::kCusPrun && sigma >= 0 && sigma <= 1);
  Mask mask;
  for (const std::vector<uint32_t>& keys : order.layers) {
    const int64_t ranks = IrrelevantRanks(keys.size(), sigma);
    std::vector<int32_t>& kept = mask.kept.emplace_back();
    for (size_t channel = 0; channel < keys.size(); ++channel) {
      if (RankOf(keys[channel]) >= ranks) kept.push_back(static_cast<int32_t>(channel));
    }
  }
  return mask;
}

double LargestSigma(const RemovalOrder& order) {
  assert(order.rule == Rule::kCusPrun);
  double sigma = 1;
  for (const std::vector<uint32_t>& keys : order.layers) {
    const uint32_t largest = RankOf(*std::max_element(keys.begin(), keys.end()));
    sigma = std::min(sigma, LargestStrictSigma(largest, keys.size()));
  }
  return sigma;
}

std::vector<int64_t> IrrelevantCounts(const RemovalOrder& order, double sigma) {
  assert(order.rule == Rule::kCusPrun && sigma >= 0 && sigma <= 1);
  std::vector<int64_t> counts;
  for (const std::vector<uint32_t>& keys : order.layers) {
    const int64_t ranks = IrrelevantRanks(keys.size(), sigma);
    counts.push_back(std::count_if(keys.begin(), keys.end(),
                                   [ranks](uint32_t key) { return RankOf(key) < ranks; }));
  }
  return counts;
}

double SigmaForRemoved(const RemovalOrder& order, int64_t removed) {
  assert(order.rule == Rule::kCusPrun && removed >= 0);
  if (removed == 0) return 0;
  Selector selector;
  double sigma = 0;
  for (const std::vector<uint32_t>& keys : order.layers) {
    assert(removed <= static_cast<int64_t>(keys.size()));
    const Selector::Cut cut = selector.KeyOfRank(keys, static_cast<size_t>(removed - 1));
    const auto neurons = static_cast<double>(keys.size());
    sigma = std::max(sigma, static_cast<double>(RankOf(cut.key) + 1) / neurons);
  }
  return sigma;
}

}  // namespace secateur
