// The fused passes of the CPU against ATen's operators, which other devices use: the same step in
// float32 and in float64.
#include "server/model/layers.h"

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "server/model/cpu_attention.h"

namespace secateur {
namespace {

class Layers : public testing::Test {
 protected:
  Layers() { at::manual_seed(7); }

  static at::Tensor Wide(const at::Tensor& x) { return x.to(at::kDouble); }
  static NormSpec Wide(const NormSpec& norm) {
    return {norm.weight.defined() ? Wide(norm.weight) : norm.weight, norm.offset, norm.eps};
  }
  static void ExpectNear(const at::Tensor& found, const at::Tensor& expected, double tolerance) {
    EXPECT_LE((found - expected).abs().max().item<double>(), tolerance);
  }
  static NormSpec RandomNorm(int64_t width) { return {at::randn({width}), 1.0, 1e-6}; }

  const c10::InferenceMode inference_;
};

TEST_F(Layers, NormalizeAsATenDoes) {
  const at::Tensor x = at::randn({33, 65});
  const NormSpec norm = RandomNorm(65);
  at::Tensor found = at::empty_like(x);
  at::Tensor expected = at::empty_like(x, at::kDouble);
  Normalize(x, norm, found);
  Normalize(Wide(x), Wide(norm), expected);
  ExpectNear(found, expected, 1e-5);
}

TEST_F(Layers, AddNormalizedAsATenDoes) {
  const at::Tensor x = at::randn({33, 65});
  const at::Tensor delta = 3.0 * at::randn({33, 65});
  for (const NormSpec& post : {NormSpec{}, RandomNorm(65)}) {
    for (const NormSpec& pre : {NormSpec{}, RandomNorm(65)}) {
      at::Tensor sum = at::empty_like(x);
      at::Tensor y = at::zeros_like(x);
      at::Tensor wide_sum = at::empty_like(x, at::kDouble);
      at::Tensor wide_y = at::zeros_like(x, at::kDouble);
      AddNormalized(x, delta, post, pre, sum, y);
      AddNormalized(Wide(x), Wide(delta), Wide(post), Wide(pre), wide_sum, wide_y);
      ExpectNear(sum, wide_sum, 1e-5);
      ExpectNear(y, wide_y, 1e-5);
    }
  }
}

TEST_F(Layers, GateAsATenDoes) {
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const bool masked : {false, true}) {
      at::Tensor found = 4.0 * at::randn({33, 65});
      const at::Tensor up = at::randn({33, 65});
      const at::Tensor kept = masked ? at::randint(2, {65}, at::kFloat) : at::Tensor();
      at::Tensor expected = Wide(found);
      Gate(found, up, kept, activation);
      Gate(expected, Wide(up), masked ? Wide(kept) : kept, activation);
      ExpectNear(found, expected, 1e-5);
    }
  }
}

TEST_F(Layers, NormAndRotateAsATenDoes) {
  const RotaryTables tables = MakeRotaryTables({}, 24, 10);
  const at::Tensor positions = at::arange(33) % 10;
  const at::Tensor memory = at::randn({33, 80});
  for (const NormSpec& norm : {NormSpec{}, RandomNorm(24)}) {
    at::Tensor found = memory.clone();
    at::Tensor expected = Wide(memory);
    at::Tensor found_heads = found.narrow(1, 4, 72);
    at::Tensor expected_heads = expected.narrow(1, 4, 72);
    NormAndRotate(found_heads, 24, norm, positions, tables);
    NormAndRotate(expected_heads, 24, Wide(norm), positions, tables);
    ExpectNear(found, expected, 1e-5);
    EXPECT_GT((found - memory).abs().max().item<double>(), 0.1);
  }
}

ModelConfig Heads(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  ModelConfig config;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.attention_scale = 0.3;
  return config;
}

TEST_F(Layers, AttendAsATenDoesWithAndWithoutAWindow) {
  const ModelConfig config = Heads(6, 2, 24);
  const at::Tensor projected = at::randn({60, 240});
  const std::vector<int64_t> offsets = {0, 1, 18, 60};
  for (const int64_t window : {0, 1, 7, 17, 100}) {
    at::Tensor found = at::empty({60, 144});
    at::Tensor expected = at::empty({60, 144}, at::kDouble);
    Attend(projected.narrow(1, 0, 144), projected.narrow(1, 144, 48), projected.narrow(1, 192, 48),
           offsets, config, window, found);
    const at::Tensor wide = Wide(projected);
    Attend(wide.narrow(1, 0, 144), wide.narrow(1, 144, 48), wide.narrow(1, 192, 48), offsets,
           config, window, expected);
    ExpectNear(found, expected, 1e-5);
  }
}

TEST_F(Layers, AttendWithValuesOfAnyWidth) {
  const ModelConfig config = Heads(6, 2, 24);
  for (const int64_t width : {10, 24, 48, 60}) {
    const at::Tensor projected = at::randn({60, 192 + 2 * width});
    const at::Tensor wide = Wide(projected);
    for (const int64_t window : {0, 7}) {
      at::Tensor found = at::empty({60, 6 * width});
      at::Tensor expected = at::empty({60, 6 * width}, at::kDouble);
      Attend(projected.narrow(1, 0, 144), projected.narrow(1, 144, 48),
             projected.narrow(1, 192, 2 * width), {0, 18, 60}, config, window, found);
      Attend(wide.narrow(1, 0, 144), wide.narrow(1, 144, 48), wide.narrow(1, 192, 2 * width),
             {0, 18, 60}, config, window, expected);
      ExpectNear(found, expected, 1e-5);
    }
  }
}

TEST_F(Layers, AttendToSequencesThatAreTooLongForTheKernel) {
  constexpr int64_t kLength = 2100;
  const ModelConfig config = Heads(1, 1, 1024);
  const at::Tensor q = 0.1 * at::randn({kLength, 1024});
  const at::Tensor k = at::randn({kLength, 1024});
  const at::Tensor v = at::randn({kLength, 1024});
  for (const int64_t window : {0, 500}) {
    at::Tensor found = at::empty_like(q);
    at::Tensor expected = at::empty_like(q);
    Attend(q, k, v, {0, kLength}, config, window, found);
    cpu::CausalAttention(
        {q.const_data_ptr<float>(), 1024}, {k.const_data_ptr<float>(), 1024},
        {v.const_data_ptr<float>(), 1024}, {0, kLength},
        {.heads = 1, .kv_heads = 1, .head_dim = 1024, .window = window, .scale = 0.3F},
        expected.mutable_data_ptr<float>());
    ExpectNear(found, expected, 1e-4);
  }
}

TEST_F(Layers, ProjectTogetherWhetherOrNotWeightsLieBehindOneAnother) {
  const at::Tensor x = at::randn({33, 64});
  const at::Tensor weights = at::randn({96, 64});
  const at::Tensor biases = at::randn({96});
  const auto part = [](const at::Tensor& all, int64_t begin, int64_t rows, bool own) {
    const at::Tensor rows_of_all = all.narrow(0, begin, rows);
    return own ? rows_of_all.clone() : rows_of_all;
  };
  for (const bool biased : {false, true}) {
    at::Tensor expected = x.mm(weights.t());
    if (biased) expected = expected + biases;
    for (const bool own : {false, true}) {
      const auto linear = [&](int64_t begin, int64_t rows) {
        return LinearWeights{part(weights, begin, rows, own),
                             biased ? part(biases, begin, rows, own) : at::Tensor()};
      };
      const LinearWeights first = linear(0, 64);
      const LinearWeights second = linear(64, 16);
      const LinearWeights third = linear(80, 16);
      const LinearWeights* const linears[] = {&first, &second, &third};
      at::Tensor found = at::empty({33, 96});
      ProjectTogether(x, linears, found);
      ExpectNear(found, expected, 1e-4);
      // Out of order they lie in the same memory, but not behind one another.
      const LinearWeights* const turned[] = {&third, &first, &second};
      ProjectTogether(x, turned, found);
      ExpectNear(found.narrow(1, 0, 16), expected.narrow(1, 80, 16), 1e-4);
      ExpectNear(found.narrow(1, 16, 80), expected.narrow(1, 0, 80), 1e-4);
    }
  }
}

}  // namespace
}  // namespace secateur
