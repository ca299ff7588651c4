#include "server/mask/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/mask/model_shapes.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnreachable = absl::StatusCode::kOutOfRange;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

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

TEST(SizeAtWidth, CountsTheRowsOfATrimmedVocabulary) {
  for (const Case& c : Cases()) {
    ModelConfig trimmed = c.config;
    trimmed.vocabulary_size = 64;
    trimmed.intermediate_size = 32;
    const Size size = SizeAtWidth(c.config, 32, 2, {.vocabulary = 64});
    EXPECT_EQ(size.vocabulary, 64);
    EXPECT_EQ(size.parameters, CountParameters(trimmed)) << c.name;
    EXPECT_EQ(size.bytes, 2 * CountParameters(trimmed));
    EXPECT_EQ(size.block_reduction, SizeAtWidth(c.config, 32, 2).block_reduction);
    EXPECT_EQ(size.neuron_ratio, SizeAtWidth(c.config, 32, 2).neuron_ratio);
    const auto all = static_cast<double>(CountParameters(c.config));
    EXPECT_DOUBLE_EQ(size.parameter_reduction, 1 - static_cast<double>(size.parameters) / all);
    EXPECT_EQ(SizeAtWidth(c.config, 32, 2).vocabulary, c.config.vocabulary_size);
  }
}

// A group is its tensors: the counts are those of a model with fewer heads.
TEST(SizeAtWidth, CountsKvHeadGroupsThatGo) {
  for (const Case& c : Cases()) {
    const int64_t group = c.config.num_heads / c.config.num_kv_heads;
    const auto all = static_cast<double>(CountParameters(c.config));
    const auto blocks = static_cast<double>(CountBlockParameters(c.config));
    for (int64_t kept = 1; kept <= c.config.num_kv_heads; ++kept) {
      ModelConfig expert = c.config;
      expert.num_kv_heads = kept;
      expert.num_heads = kept * group;
      expert.intermediate_size = 32;
      const Size size = SizeAtWidth(c.config, 32, 2, {.kv_head_groups = kept});
      EXPECT_EQ(size.kv_head_groups, kept);
      EXPECT_EQ(size.parameters, CountParameters(expert)) << c.name << " " << kept;
      EXPECT_EQ(size.neuron_ratio, SizeAtWidth(c.config, 32, 2).neuron_ratio);
      EXPECT_NEAR(size.parameter_reduction, 1 - static_cast<double>(size.parameters) / all, 1e-12);
      EXPECT_NEAR(size.block_reduction,
                  1 - static_cast<double>(CountBlockParameters(expert)) / blocks, 1e-12);
    }
    EXPECT_EQ(SizeAtWidth(c.config, 32, 2).kv_head_groups, c.config.num_kv_heads);
  }
}

TEST(SolveWidth, CountsKvHeadGroupsInEveryBudget) {
  const OtherChanges groups = {.kv_head_groups = 6};
  for (int64_t width = 1536; width < 14'336; width += 64) {
    const Size at = SizeAtWidth(kLlama8B, width, 2, groups);
    const auto solve = [&](Budget budget) {
      return SolveWidth(kLlama8B, budget, 64, 2, groups)->width;
    };
    EXPECT_EQ(solve(MaxParameters{at.parameters}), width);
    EXPECT_EQ(solve(MaxParameters{at.parameters - 1}), width - 64);
    EXPECT_EQ(solve(MaxBytes{at.bytes}), width);
    EXPECT_EQ(solve(ParameterReduction{at.parameter_reduction}), width);
    EXPECT_EQ(solve(ParameterReduction{at.block_reduction, true}), width);
    EXPECT_EQ(solve(NeuronRatio{at.neuron_ratio}), width);
  }
}

// Biases that the base has not: counted like tensors, in shares of the base.
TEST(SizeAtWidth, CountsBiasesThatTheBaseHasNot) {
  ASSERT_FALSE(kSmolLm2.mlp_bias);
  const auto base = static_cast<double>(CountParameters(kSmolLm2));
  const auto blocks = static_cast<double>(CountBlockParameters(kSmolLm2));
  for (const int64_t width : {64, 992, 1536}) {
    ModelConfig expert = kSmolLm2;
    expert.mlp_bias = true;
    expert.intermediate_size = width;
    const Size size = SizeAtWidth(kSmolLm2, width, 2, {.ffn_bias = true});
    EXPECT_EQ(size.parameters, CountParameters(expert));
    EXPECT_NEAR(size.parameter_reduction, 1 - static_cast<double>(size.parameters) / base, 1e-12);
    EXPECT_NEAR(size.block_reduction,
                1 - static_cast<double>(CountBlockParameters(expert)) / blocks, 1e-12);
  }
}

TEST(SolveWidth, CountsBiasesInEveryBudget) {
  const auto at = [](int64_t width) { return SizeAtWidth(kSmolLm2, width, 2, {.ffn_bias = true}); };
  const auto solve = [](Budget budget) {
    return SolveWidth(kSmolLm2, budget, 32, 2, {.ffn_bias = true});
  };
  for (int64_t width = 256; width < 1536; width += 32) {
    EXPECT_EQ(solve(MaxParameters{at(width).parameters})->width, width);
    EXPECT_EQ(solve(MaxParameters{at(width).parameters - 1})->width, width - 32);
    EXPECT_EQ(solve(MaxBytes{at(width).bytes})->width, width);
    // Up to half a step away the nearest is this one.
    const double step = at(width).parameter_reduction - at(width + 32).parameter_reduction;
    for (const double off : {-0.49, 0.0, 0.49}) {
      EXPECT_EQ(solve(ParameterReduction{at(width).parameter_reduction + off * step})->width,
                width);
    }
    const double block_step = at(width).block_reduction - at(width + 32).block_reduction;
    for (const double off : {-0.49, 0.49}) {
      EXPECT_EQ(
          solve(ParameterReduction{at(width).block_reduction + off * block_step, true})->width,
          width);
    }
  }
}

// Gemma 3 270M: 64 thousand rows less are 47 % of it; FFN neurons alone never get to 40 %.
TEST(SolveWidth, CountsTheRowsThatGoInBudgetsForTheWholeModel) {
  constexpr int64_t kRows = 65'536;
  const auto solve = [](Budget budget, int64_t rows) {
    return SolveWidth(kGemma270M, budget, 32, 2, {.vocabulary = rows});
  };
  EXPECT_THAT(solve(ParameterReduction{0.4}, kWholeVocabulary), StatusIs(kUnreachable));
  EXPECT_EQ(solve(ParameterReduction{0.4}, kRows)->width, 2048);  // the rows alone are more
  const auto half = solve(ParameterReduction{0.55}, kRows);
  ASSERT_OK(half);
  EXPECT_NEAR(half->parameter_reduction, 0.55, 0.005);
  EXPECT_LT(half->width, 2048);
  EXPECT_EQ(solve(ParameterReduction{0.25, true}, kRows)->width,
            solve(ParameterReduction{0.25, true}, kWholeVocabulary)->width);
  EXPECT_EQ(solve(NeuronRatio{0.25}, kRows)->width, 1536);
  for (const int64_t limit : {130'000'000, 142'000'000}) {
    const auto fits = solve(MaxParameters{limit}, kRows);
    ASSERT_OK(fits);
    EXPECT_LE(fits->parameters, limit);
    EXPECT_EQ(solve(MaxBytes{2 * limit}, kRows)->width, fits->width);
    if (fits->width < 2048) {
      EXPECT_GT(SizeAtWidth(kGemma270M, fits->width + 32, 2, {.vocabulary = kRows}).parameters,
                limit);
    }
  }
  EXPECT_THAT(solve(MaxParameters{50'000'000}, kRows), StatusIs(kUnreachable));
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
