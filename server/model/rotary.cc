#include "server/model/rotary.h"

#include <numbers>

#include <ATen/ATen.h>

namespace secateur {
namespace {

// Llama 3.1: long waves are slowed down by the factor, short ones kept, those between blended.
at::Tensor ScaleLlama3(const RopeConfig& rope, const at::Tensor& frequency) {
  const auto context = static_cast<double>(rope.original_max_positions);
  const double long_wave = context / rope.low_freq_factor;
  const double short_wave = context / rope.high_freq_factor;
  const at::Tensor wave = 2.0 * std::numbers::pi / frequency;
  const at::Tensor slowed = at::where(wave > long_wave, frequency / rope.factor, frequency);
  const at::Tensor blend =
      (context / wave - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor blended = (1.0 - blend) * slowed / rope.factor + blend * slowed;
  const at::Tensor between = at::logical_not(wave < short_wave) * at::logical_not(wave > long_wave);
  return at::where(between, blended, slowed);
}

at::Tensor Frequencies(const RopeConfig& rope, int64_t head_dim) {
  const at::Tensor exponent = at::arange(0, head_dim, 2, at::kFloat) / head_dim;
  const at::Tensor frequency = 1.0 / at::pow(rope.theta, exponent);
  switch (rope.scaling) {
    case RopeConfig::Scaling::kNone:
      return frequency;
    case RopeConfig::Scaling::kLinear:
      return frequency / rope.factor;
    case RopeConfig::Scaling::kLlama3:
      return ScaleLlama3(rope, frequency);
  }
  return frequency;
}

}  // namespace

RotaryTables MakeRotaryTables(const RopeConfig& rope, int64_t head_dim, int64_t positions) {
  const at::Tensor position = at::arange(positions, at::kFloat).unsqueeze(1);
  const at::Tensor angle = position * Frequencies(rope, head_dim);
  return {at::cos(angle), at::sin(angle)};
}

}  // namespace secateur
