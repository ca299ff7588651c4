#include "server/mask/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <optional>

#include "server/model/tensor_table.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnreachable = absl::StatusCode::kOutOfRange;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

ModelConfig Llama(int64_t vocabulary, int64_t hidden, int64_t intermediate, int64_t layers,
                  int64_t heads, int64_t kv_heads, bool tied) {
  ModelConfig config;
  config.model_type = "llama";
  config.vocabulary_size = vocabulary;
  config.hidden_size = hidden;
  config.intermediate_size = intermediate;
  config.num_layers = layers;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.tied_embeddings = tied;
  config.sliding.assign(static_cast<size_t>(layers), false);
  return config;
}

ModelConfig Gemma3(int64_t hidden, int64_t intermediate, int64_t layers, int64_t heads) {
  ModelConfig config = Llama(262'144, hidden, intermediate, layers, heads, 1, true);
  config.model_type = "gemma3_text";
  config.head_dim = 256;
  config.qk_norm = config.post_norms = true;
  return config;
}

const ModelConfig kSmolLm2 = Llama(49'152, 576, 1536, 30, 9, 3, true);
const ModelConfig kGemma270M = Gemma3(640, 2048, 18, 4);
const ModelConfig kGemma1B = Gemma3(1152, 6912, 26, 4);
const ModelConfig kLlama8B = Llama(128'256, 4096, 14'336, 32, 32, 8, false);
const ModelConfig kLlama2 = Llama(32'000, 4096, 11'008, 32, 32, 32, false);
const ModelConfig kLlama1B = Llama(128'256, 2048, 8192, 16, 32, 8, true);

// Small enough to try every width; biases, and a width that is no multiple of anything.
ModelConfig Tiny() {
  ModelConfig config = Llama(97, 24, 151, 3, 4, 2, false);
  config.mlp_bias = config.attention_bias = true;
  return config;
}

int64_t CountAt(ModelConfig config, int64_t width) {
  config.intermediate_size = width;
  return CountParameters(config);
}

// Every width that may be asked for.
std::vector<int64_t> AllowedWidths(const ModelConfig& config, int64_t alignment) {
  std::vector<int64_t> widths;
  for (int64_t w = 1; w <= config.intermediate_size; ++w) {
    if (w % alignment == 0 || w == config.intermediate_size) widths.push_back(w);
  }
  return widths;
}

int64_t SmallestExpert(const ModelConfig& config, int64_t alignment) {
  for (const int64_t width : AllowedWidths(config, alignment)) {
    const auto removed = static_cast<double>(config.intermediate_size - width);
    if (removed / static_cast<double>(config.intermediate_size) <= kMostNeuronsRemoved)
      return width;
  }
  return config.intermediate_size;
}

struct Case {
  const char* name;
  ModelConfig config;
  std::vector<int64_t> alignments;
};

std::vector<Case> Cases() {
  return {{"tiny", Tiny(), {1, 2, 32, 64, 150, 151, 152, 256, kMax}},
          {"SmolLM2", kSmolLm2, {64, 256}},
          {"Gemma 3 270M", kGemma270M, {32, 256}}};
}

TEST(SizeAtWidth, CountsTheTensorsOfTheSlicedModel) {
  for (const Case& c : Cases()) {
    for (const int64_t width : {int64_t{1}, int64_t{64}, c.config.intermediate_size}) {
      const Size size = SizeAtWidth(c.config, width, 2);
      ModelConfig sliced = c.config;
      sliced.intermediate_size = width;
      int64_t parameters = 0;
      int64_t in_layers = 0;
      for (const TensorInfo& tensor : TensorTable(sliced)) {
        int64_t elements = 1;
        for (const int64_t n : tensor.shape) elements *= n;
        parameters += elements;
        if (tensor.layer >= 0) in_layers += elements;
      }
      EXPECT_EQ(size.width, width);
      EXPECT_EQ(size.parameters, parameters) << c.name;
      EXPECT_EQ(size.bytes, 2 * parameters);
      const auto all = static_cast<double>(CountParameters(c.config));
      const auto blocks = static_cast<double>(CountBlockParameters(c.config));
      const auto m = static_cast<double>(c.config.intermediate_size);
      EXPECT_DOUBLE_EQ(size.neuron_ratio, (m - static_cast<double>(width)) / m);
      EXPECT_DOUBLE_EQ(size.parameter_reduction, (all - static_cast<double>(parameters)) / all);
      EXPECT_DOUBLE_EQ(size.block_reduction, (blocks - static_cast<double>(in_layers)) / blocks);
    }
  }
}

TEST(SizeAtWidth, KnowsTheSizesOfTheRealModels) {
  EXPECT_EQ(SizeAtWidth(kSmolLm2, 1536, 2).parameters, 134'515'008);
  EXPECT_EQ(SizeAtWidth(kSmolLm2, 1536, 2).bytes, 269'030'016);
  EXPECT_EQ(SizeAtWidth(kGemma270M, 2048, 2).parameters, 268'098'176);
  EXPECT_EQ(SizeAtWidth(kLlama8B, 14'336, 4).parameters, 8'030'261'248);
  // ALGORITHM 4.1: a neuron is three vectors of the hidden size in every layer.
  EXPECT_EQ(CountAt(kLlama8B, 14'336) - CountAt(kLlama8B, 14'335), 3 * 4096 * 32);
}

TEST(SolveWidth, MeetsTheWorkedExamples) {
  const auto width = [](const ModelConfig& config, Budget budget, int64_t alignment) {
    return SolveWidth(config, budget, alignment, 2)->width;
  };
  EXPECT_EQ(width(kLlama8B, ParameterReduction{0.25}, 1), 9230);  // 9230.497
  EXPECT_EQ(width(kLlama8B, ParameterReduction{0.25}, 256), 9216);
  EXPECT_EQ(width(kLlama8B, ParameterReduction{0.25, true}, 1), 9899);
  EXPECT_EQ(width(kLlama2, ParameterReduction{0.25}, 1), 6724);
  EXPECT_EQ(width(kLlama1B, ParameterReduction{0.25}, 1), 5049);
  EXPECT_EQ(width(kGemma1B, ParameterReduction{0.25}, 1), 4130);
  EXPECT_EQ(width(kSmolLm2, NeuronRatio{0.35}, 32), 992);  // 998.4
  EXPECT_EQ(width(kSmolLm2, NeuronRatio{0.35}, 256), 1024);
  ASSERT_OK_AND_ASSIGN(const Size size, SolveWidth(kLlama8B, ParameterReduction{0.25}, 256, 2));
  EXPECT_NEAR(size.parameter_reduction, 0.2507, 5e-5);
}

// Of every width that may be asked for, behind that of 0 neurons, which nobody gets.
std::vector<Size> AllSizes(const ModelConfig& config, int64_t alignment) {
  std::vector<Size> sizes = {SizeAtWidth(config, 0, 2)};
  for (const int64_t width : AllowedWidths(config, alignment)) {
    sizes.push_back(SizeAtWidth(config, width, 2));
  }
  return sizes;
}

using Share = double Size::*;

// What SolveWidth should say, by trying every width; nothing if it should refuse.
std::optional<Size> Nearest(const std::vector<Size>& sizes, double share, int64_t smallest,
                            Share achieved) {
  Size best;
  double best_distance = 2;
  for (const Size& size : sizes) {
    const double distance = std::abs(size.*achieved - share);
    if (distance <= best_distance) {
      best = size;
      best_distance = distance;
    }
  }
  return best.width >= smallest ? std::optional(best) : std::nullopt;
}

std::vector<double> Shares() {
  std::vector<double> shares = {0.0, 1e-300, 1e-9, 0.98, 0.99, 0.9999, std::nextafter(1.0, 0.0)};
  for (int i = 1; i < 22; ++i) shares.push_back(i / 23.0);
  return shares;
}

// `make` turns a share into the budget.
void ExpectNearest(const Case& c, int64_t alignment, int64_t smallest, Share achieved,
                   const std::function<Budget(double)>& make) {
  const std::vector<Size> sizes = AllSizes(c.config, alignment);
  const double most = SizeAtWidth(c.config, smallest, 2).*achieved;
  for (const double share : Shares()) {
    const std::optional<Size> expected = Nearest(sizes, share, smallest, achieved);
    const auto solved = SolveWidth(c.config, make(share), alignment, 2);
    if (!expected.has_value()) {
      EXPECT_THAT(solved, StatusIs(kUnreachable, HasSubstr(absl::StrCat(most))))
          << c.name << " " << alignment << " " << share;
      continue;
    }
    ASSERT_OK(solved);
    EXPECT_EQ(solved->width, expected->width) << c.name << " " << alignment << " " << share;
    EXPECT_EQ(solved->parameters, expected->parameters);
  }
}

TEST(SolveWidth, NeuronRatioGivesTheNearestWidthOfAll) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      ExpectNearest(c, alignment, AllowedWidths(c.config, alignment).front(), &Size::neuron_ratio,
                    [](double share) { return NeuronRatio{share}; });
    }
  }
}

TEST(SolveWidth, ParameterReductionGivesTheNearestWidthOfAll) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      const int64_t smallest = SmallestExpert(c.config, alignment);
      ExpectNearest(c, alignment, smallest, &Size::parameter_reduction,
                    [](double share) { return ParameterReduction{share, false}; });
      ExpectNearest(c, alignment, smallest, &Size::block_reduction,
                    [](double share) { return ParameterReduction{share, true}; });
    }
  }
}

TEST(SolveWidth, LimitsGiveTheLargestWidthThatFits) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      const std::vector<Size> sizes = AllSizes(c.config, alignment);
      const int64_t smallest = SmallestExpert(c.config, alignment);
      const int64_t least = CountAt(c.config, smallest);
      std::vector<int64_t> limits = {1, kMax};
      for (const Size& size : sizes) {
        limits.insert(limits.end(), {size.parameters - 1, size.parameters, size.parameters + 1});
      }
      for (const int64_t limit : limits) {
        int64_t expected = 0;
        for (const Size& size : sizes) {
          if (size.parameters <= limit) expected = size.width;
        }
        const auto solved = SolveWidth(c.config, MaxParameters{limit}, alignment, 2);
        if (expected < smallest) {
          EXPECT_THAT(solved, StatusIs(kUnreachable, HasSubstr(absl::StrCat(least))));
          continue;
        }
        ASSERT_OK(solved);
        EXPECT_EQ(solved->width, expected) << c.name << " " << alignment << " " << limit;
        if (limit > kMax / 4) continue;
        for (const int64_t odd : {0, 3}) {  // not a whole element more
          EXPECT_EQ(SolveWidth(c.config, MaxBytes{4 * limit + odd}, alignment, 4)->width, expected);
        }
      }
    }
  }
}

TEST(SolveWidth, WidthIsTakenExactlyIfItIsAligned) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : c.alignments) {
      const std::vector<int64_t> allowed = AllowedWidths(c.config, alignment);
      std::vector<int64_t> widths = {-1, 0};
      for (const int64_t width : allowed) {
        widths.insert(widths.end(), {width - 1, width, width + 1});
      }
      for (const int64_t width : widths) {
        const auto solved = SolveWidth(c.config, Width{width}, alignment, 2);
        if (std::find(allowed.begin(), allowed.end(), width) != allowed.end()) {
          ASSERT_OK(solved);
          ASSERT_EQ(solved->width, width);
        } else {
          ASSERT_THAT(solved,
                      StatusIs(kUnreachable, HasSubstr(absl::StrCat("width ", width, " "))));
        }
      }
    }
  }
}

TEST(SolveWidth, AnUnalignedWidthNamesItsNeighbours) {
  const auto refused = [](int64_t width, const char* nearest) {
    EXPECT_THAT(SolveWidth(kSmolLm2, Width{width}, 64, 2),
                StatusIs(kUnreachable, AllOf(HasSubstr("multiple of 64"), HasSubstr(nearest))));
  };
  refused(1000, "nearest: 960 and 1024");
  refused(10, "nearest: 64");
  refused(1537, "nearest: 1536");
  refused(kMax, "nearest: 1536");
  refused(-kMax, "nearest: 64");
}

TEST(SolveWidth, TheBasesOwnWidthAlwaysQualifies) {
  for (const Case& c : Cases()) {
    for (const int64_t alignment : {int64_t{1}, int64_t{1024}, int64_t{999'983}, kMax}) {
      for (const Budget& budget :
           {Budget(NeuronRatio{0}), Budget(ParameterReduction{0}),
            Budget(ParameterReduction{0, true}), Budget(MaxParameters{kMax}),
            Budget(MaxBytes{kMax}), Budget(Width{c.config.intermediate_size})}) {
        ASSERT_OK_AND_ASSIGN(const Size size, SolveWidth(c.config, budget, alignment, 2));
        EXPECT_EQ(size.width, c.config.intermediate_size);
        EXPECT_EQ(size.neuron_ratio, 0);
        EXPECT_EQ(size.parameter_reduction, 0);
      }
    }
  }
}

TEST(SolveWidth, AQuarterOfGemma270MIsOutOfReachAndTheNearestIsNamed) {
  // 109 of 2,048 neurons would be left (ALGORITHM 4.1).
  for (const int64_t alignment : {1, 32, 64, 256}) {
    const Size least = SizeAtWidth(kGemma270M, SmallestExpert(kGemma270M, alignment), 2);
    EXPECT_THAT(
        SolveWidth(kGemma270M, ParameterReduction{0.25}, alignment, 2),
        StatusIs(kUnreachable,
                 AllOf(HasSubstr("parameter_reduction 0.25 of all parameters"),
                       HasSubstr("26.40 %"), HasSubstr(absl::StrCat(least.parameter_reduction)),
                       HasSubstr(absl::StrCat("width ", least.width)))));
    // What is named can be had.
    ASSERT_OK_AND_ASSIGN(
        const Size reached,
        SolveWidth(kGemma270M, ParameterReduction{least.parameter_reduction}, alignment, 2));
    EXPECT_EQ(reached.width, least.width);
  }
  EXPECT_OK(SolveWidth(kGemma270M, ParameterReduction{0.25, true}, 32, 2));
  EXPECT_OK(SolveWidth(kGemma270M, Width{32}, 32, 2));  // explicit
  EXPECT_OK(SolveWidth(kGemma270M, NeuronRatio{0.95}, 32, 2));
}

TEST(SolveWidth, RefusalsNameTheFieldTheValueAndWhatCanBeReached) {
  EXPECT_THAT(SolveWidth(kSmolLm2, NeuronRatio{0.995}, 64, 2),
              StatusIs(kUnreachable, AllOf(HasSubstr("neuron_ratio 0.995"), HasSubstr("64 of 1536"),
                                           HasSubstr("0.958333"))));
  EXPECT_THAT(SolveWidth(kSmolLm2, MaxParameters{1000}, 32, 2),
              StatusIs(kUnreachable, AllOf(HasSubstr("max_parameters 1000"),
                                           HasSubstr(absl::StrCat(CountAt(kSmolLm2, 160))))));
  EXPECT_THAT(SolveWidth(kSmolLm2, MaxBytes{1000}, 32, 2),
              StatusIs(kUnreachable, AllOf(HasSubstr("max_bytes 1000"),
                                           HasSubstr(absl::StrCat(2 * CountAt(kSmolLm2, 160))))));
  EXPECT_THAT(SolveWidth(kSmolLm2, ParameterReduction{0.99, true}, 32, 2),
              StatusIs(kUnreachable, HasSubstr("of the layers' parameters")));
}

TEST(SolveWidth, SharesOutsideZeroToOneAreRefused) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double share : {1.0, 1.5, -0.1, -1e-300, 35.0, infinity, -infinity, std::nan("")}) {
    EXPECT_THAT(SolveWidth(kSmolLm2, NeuronRatio{share}, 32, 2),
                StatusIs(kInvalid, HasSubstr("neuron_ratio")));
    EXPECT_THAT(SolveWidth(kSmolLm2, ParameterReduction{share}, 32, 2),
                StatusIs(kInvalid, HasSubstr("parameter_reduction")));
  }
}

TEST(SolveWidth, LimitsAlignmentsAndElementSizesMustBePositive) {
  for (const int64_t value : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    EXPECT_THAT(SolveWidth(kSmolLm2, MaxParameters{value}, 32, 2),
                StatusIs(kInvalid, HasSubstr("max_parameters")));
    EXPECT_THAT(SolveWidth(kSmolLm2, MaxBytes{value}, 32, 2),
                StatusIs(kInvalid, HasSubstr("max_bytes")));
    EXPECT_THAT(SolveWidth(kSmolLm2, NeuronRatio{0.5}, value, 2),
                StatusIs(kInvalid, HasSubstr("alignment")));
    EXPECT_THAT(SolveWidth(kSmolLm2, NeuronRatio{0.5}, 32, value),
                StatusIs(kInvalid, HasSubstr("element")));
  }
}

}  // namespace
}  // namespace secateur
