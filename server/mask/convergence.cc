#include "server/mask/convergence.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/mask/for_each_layer.h"

namespace secateur {
namespace {

// Halvings of an interval: to the precision of a double.
constexpr int kBisections = 60;
// Of Simpson's rule, even; the integrand is smooth.
constexpr int kIntervals = 64;

// The x in [low, high] at which the ascending `function` reaches `value`.
template <class Function>
double Bisect(double low, double high, double value, const Function& function) {
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (low + high) / 2;
    (function(middle) < value ? low : high) = middle;
  }
  return (low + high) / 2;
}

// Of the standard normal distribution.
double Quantile(double probability) {
  return Bisect(-40, 40, probability,
                [](double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; });
}

double JaccardOf(double overlap) { return overlap / (2 - overlap); }
double OverlapOf(double jaccard) { return 2 * jaccard / (1 + jaccard); }

double SpearmanBrown(double correlation, double lengthening) {
  return lengthening * correlation / (1 + (lengthening - 1) * correlation);
}

absl::Status CheckHalves(const std::vector<WeightedView>& views) {
  for (size_t i = 0; i < views.size(); ++i) {
    const RelevanceView& view = *views[i].view;
    for (const RelevanceView::Layer& layer : view.layers) {
      if (layer.half.size() == layer.relevance.size()) continue;
      return absl::InvalidArgumentError(
          StrCat("view ", i, " keeps no relevance of a half of its documents"));
    }
  }
  return absl::OkStatus();
}

// How many times the variance of the composed mean that of a half's is, on average over the two:
// a view of n documents, s of them in one half, adds weight^2 / n to the first, and 1 / s or
// 1 / (1 - s) times that to the others.
double Lengthening(const std::vector<WeightedView>& views) {
  double whole = 0, halves = 0;
  for (const WeightedView& weighted : views) {
    const auto documents = static_cast<double>(std::max<int64_t>(weighted.view->documents, 1));
    const double share = weighted.view->half_share;
    const double variance = weighted.weight * weighted.weight / documents;
    whole += variance;
    halves += variance / (2 * share * (1 - share));
  }
  return halves / whole;
}

// Keys as Compose() makes them, from sums over the views.
std::vector<uint32_t> KeysOf(const std::vector<double>& sums) {
  std::vector<uint32_t> keys(sums.size());
  for (size_t k = 0; k < keys.size(); ++k) {
    keys[k] = std::bit_cast<uint32_t>(static_cast<float>(sums[k]));
  }
  return keys;
}

// Both halves of one layer, each as a mean over its own documents. Scratch memory for one thread.
class HalvesOfLayer {
 public:
  void Sum(const std::vector<WeightedView>& views, size_t layer) {
    const size_t width = views[0].view->layers[layer].relevance.size();
    first.assign(width, 0);
    second.assign(width, 0);
    for (const WeightedView& weighted : views) {
      const RelevanceView::Layer& from = weighted.view->layers[layer];
      const double first_weight = weighted.weight / weighted.view->half_share;
      const double second_weight = weighted.weight / (1 - weighted.view->half_share);
      const float* relevance = from.relevance.data();
      const float* half = from.half.data();
      for (size_t k = 0; k < width; ++k) {
        // Rounding may leave a neuron of one half alone with less than nothing in the other.
        const float rest = std::max(0.0f, relevance[k] - half[k]);
        first[k] += first_weight * static_cast<double>(half[k]);
        second[k] += second_weight * static_cast<double>(rest);
      }
    }
    // Past any mean: protected neurons go last, as they do for the whole.
    for (const WeightedView& weighted : views) {
      for (const uint16_t channel : weighted.view->layers[layer].protected_channels) {
        first[channel] = second[channel] = std::numeric_limits<float>::max();
      }
    }
  }

  std::vector<double> first, second;
};

// Jaccard index of what two masks of `width` neurons remove of `neurons`.
double RemovedJaccard(const std::vector<int32_t>& kept_a, const std::vector<int32_t>& kept_b,
                      size_t neurons) {
  std::vector<uint8_t> kept(neurons);
  for (const int32_t channel : kept_a) kept[static_cast<size_t>(channel)] = 1;
  size_t shared = 0;
  for (const int32_t channel : kept_b) shared += kept[static_cast<size_t>(channel)];
  const size_t either = kept_a.size() + kept_b.size() - shared;
  return static_cast<double>(neurons - either) / static_cast<double>(neurons - shared);
}

}  // namespace

double OverlapAt(double correlation, double share) {
  // P(x < h, y < h) = share^2 + 1/(2 pi) int_0^asin(correlation) exp(-h^2 / (1 + sin t)) dt.
  const double h = Quantile(share);
  const double step = std::asin(std::clamp(correlation, 0.0, 1.0)) / kIntervals;
  double sum = 0;
  for (int i = 0; i <= kIntervals; ++i) {
    const double factor = i == 0 || i == kIntervals ? 1 : i % 2 == 1 ? 4 : 2;
    sum += factor * std::exp(-h * h / (1 + std::sin(i * step)));
  }
  return share + sum * step / 3 / (2 * std::numbers::pi * share);
}

double CorrelationAt(double overlap, double share) {
  if (overlap <= share) return 0;
  return Bisect(0, 1, overlap, [&](double r) { return OverlapAt(r, share); });
}

absl::StatusOr<std::optional<Halves>> Halves::Compose(const std::vector<WeightedView>& views,
                                                      int threads) {
  RETURN_IF_ERROR(CheckHalves(views));
  for (const WeightedView& weighted : views) {
    const double share = weighted.view->half_share;
    if (!(share > 0 && share < 1)) return std::optional<Halves>();
  }
  const size_t layers = views[0].view->layers.size();
  Halves halves;
  halves.first_.layers.resize(layers);
  halves.second_.layers.resize(layers);
  ForEachLayer(layers, threads, [&] {
    return [&, sums = HalvesOfLayer()](size_t layer) mutable {
      sums.Sum(views, layer);
      halves.first_.layers[layer] = KeysOf(sums.first);
      halves.second_.layers[layer] = KeysOf(sums.second);
    };
  });
  halves.lengthening_ = Lengthening(views);
  return std::optional<Halves>(std::move(halves));
}

Convergence Halves::At(int64_t width, int threads) const {
  const Mask first = SelectUniform(first_, width, threads);
  const Mask second = SelectUniform(second_, width, threads);
  const size_t neurons = first_.layers[0].size();
  std::vector<double> jaccards(first.kept.size());
  ForEachLayer(jaccards.size(), threads, [&] {
    return [&](size_t layer) {
      jaccards[layer] = RemovedJaccard(first.kept[layer], second.kept[layer], neurons);
    };
  });
  Convergence result;
  for (const double jaccard : jaccards) result.split_half += jaccard;
  result.split_half /= static_cast<double>(jaccards.size());
  const double share = 1 - static_cast<double>(width) / static_cast<double>(neurons);
  const double half = CorrelationAt(OverlapOf(result.split_half), share);
  const double whole = SpearmanBrown(half, lengthening_);
  result.agreement = JaccardOf(OverlapAt(whole, share));
  // Spearman-Brown the other way round.
  const double wanted = CorrelationAt(OverlapOf(kEnoughAgreement), share);
  const double growth = wanted * (1 - whole) / (whole * (1 - wanted));
  result.growth = whole > 0 ? std::min(growth, kMostGrowth) : kMostGrowth;
  return result;
}

}  // namespace secateur
