#include "server/artifact/slice_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "tests/artifact/random_base.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Element by element: the index of every output element is worked out on its own.
std::string NaiveSlice(const TensorView& base, int axis, const std::vector<int32_t>& kept) {
  const auto item = static_cast<size_t>(ItemSize(base.dtype));
  std::vector<int64_t> shape = base.shape;
  if (axis >= 0) shape[static_cast<size_t>(axis)] = static_cast<int64_t>(kept.size());
  const int64_t count =
      std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  std::string out;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i;
    int64_t from = 0;
    int64_t stride = 1;
    for (int dim = static_cast<int>(shape.size()) - 1; dim >= 0; --dim) {
      const auto d = static_cast<size_t>(dim);
      const int64_t at = rest % shape[d];
      rest /= shape[d];
      from += (dim == axis ? kept[static_cast<size_t>(at)] : at) * stride;
      stride *= base.shape[d];
    }
    out += base.bytes.substr(static_cast<size_t>(from) * item, item);
  }
  return out;
}

absl::StatusOr<std::string> Sliced(const TensorSlice& slice, const TensorView& base) {
  std::string out;
  const absl::Status status = StreamSlice(slice, base, [&out](std::string_view bytes) {
    EXPECT_FALSE(bytes.empty());
    out += bytes;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return out;
}

SafetensorsFolder OpenBase(const TempDir& folder, const ModelConfig& config, DType dtype) {
  folder.Write("model.safetensors", RandomWeights(config, dtype));
  auto base = SafetensorsFolder::Open(folder.path());
  EXPECT_OK(base);
  return *std::move(base);
}

TEST(SlicePlan, EveryTensorEqualsAnElementWiseCopy) {
  const ModelConfig config = SmallConfig();
  for (const DType dtype : {DType::kU8, DType::kBF16, DType::kF32, DType::kF64}) {
    const TempDir folder;
    const SafetensorsFolder base = OpenBase(folder, config, dtype);
    for (const int64_t width : {1, 2, 13, 39, 40}) {
      const Mask mask = RandomMask(config, width);
      ASSERT_OK_AND_ASSIGN(const auto plan, MakeSlicePlan(config, base, mask));
      ASSERT_EQ(plan.size(), TensorTable(config).size());
      for (const TensorSlice& slice : plan) {
        ASSERT_OK_AND_ASSIGN(const TensorView view, base.Find(slice.info.name));
        const bool row = absl::StrContains(slice.spec.name, "gate_proj") ||
                         absl::StrContains(slice.spec.name, "up_proj");
        const bool column = absl::StrContains(slice.spec.name, "down_proj");
        const int axis = row ? 0 : column ? 1 : -1;
        const std::vector<int32_t> kept =
            axis < 0 ? std::vector<int32_t>() : mask.kept[static_cast<size_t>(slice.info.layer)];
        EXPECT_THAT(Sliced(slice, view), IsOkAndHolds(NaiveSlice(view, axis, kept)))
            << slice.spec.name << " at width " << width;
      }
    }
  }
}

TEST(SlicePlan, RowsOfTheVocabularyGoFromEmbeddingAndHead) {
  const ModelConfig config = SmallConfig();  // not tied
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const TempDir folder;
    const SafetensorsFolder base = OpenBase(folder, config, dtype);
    Mask mask = RandomMask(config, 13);
    mask.vocabulary = {0, 1, 2, 17, 30, 31, 49};
    ModelConfig trimmed = config;
    trimmed.intermediate_size = 13;
    trimmed.vocabulary_size = 7;
    ASSERT_OK_AND_ASSIGN(const auto plan, MakeSlicePlan(config, base, mask));
    const std::vector<TensorInfo> table = TensorTable(trimmed);
    ASSERT_EQ(plan.size(), table.size());
    int cut = 0;
    for (size_t i = 0; i < plan.size(); ++i) {
      EXPECT_EQ(plan[i].spec.shape, table[i].shape) << plan[i].spec.name;
      if (plan[i].kept != &mask.vocabulary) continue;
      ++cut;
      ASSERT_OK_AND_ASSIGN(const TensorView view, base.Find(plan[i].info.name));
      EXPECT_THAT(Sliced(plan[i], view), IsOkAndHolds(NaiveSlice(view, 0, mask.vocabulary)));
    }
    EXPECT_EQ(cut, 2);
  }
}

TEST(SlicePlan, RefusesRowsThatDoNotFit) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kF32);
  Mask mask = RandomMask(config, 13);
  const auto plan = [&](const std::vector<int32_t>& rows, Shape shape = Shape::kUniform) {
    mask.vocabulary = rows;
    return MakeSlicePlan(config, base, {mask, shape}).status();
  };
  EXPECT_OK(plan({0, 49}));
  EXPECT_THAT(plan({0, 50}), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr("mask of the vocabulary has row 50")));
  EXPECT_THAT(plan({-1}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("row -1")));
  EXPECT_THAT(plan({3, 3}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("row 3 behind")));
  EXPECT_THAT(plan({0, 1}, Shape::kMasked),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("masked shape")));
}

TEST(SlicePlan, ShapesAndParametersAreThoseOfAModelOfThatWidth) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  const Mask mask = RandomMask(config, 13);
  ModelConfig narrow = config;
  narrow.intermediate_size = 13;
  ASSERT_OK_AND_ASSIGN(const auto plan, MakeSlicePlan(config, base, mask));
  const std::vector<TensorInfo> table = TensorTable(narrow);
  ASSERT_EQ(plan.size(), table.size());
  int64_t bytes = 0;
  for (size_t i = 0; i < plan.size(); ++i) {
    EXPECT_EQ(plan[i].spec.name, table[i].name);
    EXPECT_EQ(plan[i].spec.shape, table[i].shape);
    EXPECT_EQ(plan[i].spec.dtype, DType::kBF16);
    bytes += ByteSize(plan[i].spec);
  }
  EXPECT_EQ(bytes, 2 * CountParameters(narrow));
}

TEST(SlicePlan, ShapesAndParametersAreThoseOfAModelOfThatManyHeads) {
  ModelConfig config = SmallConfig();
  config.attention_bias = true;
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  Mask mask = RandomMask(config, 13);
  RemoveGroups(config, 1, mask);
  ModelConfig narrow = config;
  narrow.intermediate_size = 13;
  narrow.num_heads = 2;
  narrow.num_kv_heads = 1;
  ASSERT_OK_AND_ASSIGN(const auto plan, MakeSlicePlan(config, base, mask));
  const std::vector<TensorInfo> table = TensorTable(narrow);
  ASSERT_EQ(plan.size(), table.size());
  int64_t bytes = 0;
  for (size_t i = 0; i < plan.size(); ++i) {
    EXPECT_EQ(plan[i].spec.name, table[i].name);
    EXPECT_EQ(plan[i].spec.shape, table[i].shape) << table[i].name;
    bytes += ByteSize(plan[i].spec);
    if (plan[i].axis < 0) continue;
    ASSERT_OK_AND_ASSIGN(const TensorView view, base.Find(table[i].name));
    ASSERT_OK_AND_ASSIGN(const std::string sliced, Sliced(plan[i], view));
    EXPECT_EQ(sliced, NaiveSlice(view, plan[i].axis, *plan[i].kept));
  }
  EXPECT_EQ(bytes, 2 * CountParameters(narrow));
  EXPECT_EQ(HeadsOf(config, mask), HeadsOf(narrow));
  EXPECT_EQ(HeadsOf(config, {mask, Shape::kMasked}), HeadsOf(config));
}

TEST(SlicePlan, CutsTheSameNumberOfWholeGroupsAlone) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  Mask good = RandomMask(config, 13);
  RemoveGroups(config, 1, good);
  ASSERT_OK(MakeSlicePlan(config, base, good));
  Mask mask = good;
  mask.attention[1].key.pop_back();
  EXPECT_THAT(MakeSlicePlan(config, base, mask),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 1")));
  mask = good;
  Mask all = good;
  RemoveGroups(config, 2, all);
  mask.attention[2] = all.attention[2];
  EXPECT_THAT(MakeSlicePlan(config, base, mask),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("keeps 2 KV head groups and layer 0 keeps 1")));
  EXPECT_OK(MakeSlicePlan(config, base, {mask, Shape::kMasked}));
}

// Everything that goes is zeros of its own place; counts differ between layers.
TEST(SlicePlan, AMaskedShapeHasZerosWhereUnitsGo) {
  ModelConfig config = SmallConfig();
  config.attention_bias = true;
  for (const DType dtype : {DType::kU8, DType::kBF16, DType::kF32}) {
    const TempDir folder;
    const SafetensorsFolder base = OpenBase(folder, config, dtype);
    Mask mask = RandomMask(config, 13);
    mask.kept[0] = {0, 39};
    mask.kept[1].resize(40);
    std::iota(mask.kept[1].begin(), mask.kept[1].end(), 0);
    RemoveAttention(config, mask);
    ASSERT_OK_AND_ASSIGN(const auto plan, MakeSlicePlan(config, base, {mask, Shape::kMasked}));
    std::set<TensorRole> cut;
    for (const TensorSlice& slice : plan) {
      ASSERT_OK_AND_ASSIGN(const TensorView view, base.Find(slice.info.name));
      EXPECT_EQ(slice.spec.shape, view.shape);
      ASSERT_OK_AND_ASSIGN(const std::string masked, Sliced(slice, view));
      ASSERT_EQ(masked.size(), view.bytes.size());
      if (slice.axis < 0) {
        EXPECT_EQ(masked, view.bytes) << slice.spec.name;
        continue;
      }
      cut.insert(slice.info.role);
      EXPECT_EQ(NaiveSlice({view.dtype, view.shape, masked}, slice.axis, *slice.kept),
                NaiveSlice(view, slice.axis, *slice.kept));
      std::vector<int32_t> gone;
      const int64_t all = view.shape[static_cast<size_t>(slice.axis)];
      for (int32_t channel = 0; channel < all; ++channel) {
        if (!std::binary_search(slice.kept->begin(), slice.kept->end(), channel)) {
          gone.push_back(channel);
        }
      }
      const std::string zeros = NaiveSlice({view.dtype, view.shape, masked}, slice.axis, gone);
      EXPECT_EQ(zeros, std::string(zeros.size(), '\0')) << slice.spec.name;
    }
    EXPECT_THAT(cut, testing::UnorderedElementsAre(TensorRole::kQuery, TensorRole::kQueryBias,
                                                   TensorRole::kKey, TensorRole::kKeyBias,
                                                   TensorRole::kValue, TensorRole::kValueBias,
                                                   TensorRole::kOutput, TensorRole::kGate,
                                                   TensorRole::kUp, TensorRole::kDown));
  }
}

TEST(SlicePlan, RefusesAttentionThatDoesNotFit) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  Mask good = RandomMask(config, 13);
  RemoveAttention(config, good);
  EXPECT_THAT(MakeSlicePlan(config, base, good),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("group")));
  const std::pair<std::function<void(Mask&)>, std::string> cases[] = {
      {[](Mask& m) { m.attention.pop_back(); }, "attention of 2 layers; the base model has 3"},
      {[](Mask& m) { m.attention[1].key.clear(); }, "layer 1 keeps no key row"},
      {[](Mask& m) { m.attention[0].value.back() = 12; }, "layer 0 has value row 12"},
      {[](Mask& m) { m.attention[2].query[0] = -1; }, "layer 2 has query row -1"},
      {[](Mask& m) { std::swap(m.attention[0].output[0], m.attention[0].output[1]); },
       "layer 0 has output column 0"}};
  for (const auto& [spoil, named] : cases) {
    Mask mask = good;
    spoil(mask);
    EXPECT_THAT(MakeSlicePlan(config, base, {mask, Shape::kMasked}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(named)));
  }
}

TEST(SlicePlan, OnlyAMaskedShapeTakesCountsThatDiffer) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  Mask mask = RandomMask(config, 13);
  mask.kept.back().pop_back();
  EXPECT_OK(MakeSlicePlan(config, base, {mask, Shape::kMasked}));
  EXPECT_THAT(MakeSlicePlan(config, base, mask),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the same count")));
}

TEST(SlicePlan, AReplacedTensorComesInPlaceOfTheBases) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  const Mask mask = RandomMask(config, 13);
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const std::string bytes(static_cast<size_t>(config.hidden_size) * 13 * 2, 'x');
  ASSERT_OK_AND_ASSIGN(const auto replaced, ScratchTensors::Create());
  ASSERT_OK(replaced->Add({name, DType::kBF16, {config.hidden_size, 13}}, bytes));
  ASSERT_OK(replaced->Seal());
  ASSERT_OK_AND_ASSIGN(const auto plan,
                       MakeSlicePlan(config, base, {mask, Shape::kUniform, replaced.get()}));
  int seen = 0;
  for (const TensorSlice& slice : plan) {
    ASSERT_OK_AND_ASSIGN(const TensorView view, base.Find(slice.info.name));
    ASSERT_OK_AND_ASSIGN(const std::string streamed, Sliced(slice, view));
    seen += slice.spec.name == name ? 1 : 0;
    EXPECT_EQ(streamed == bytes, slice.spec.name == name) << slice.spec.name;
  }
  EXPECT_EQ(seen, 1);
  // In the base's shape it does not belong to a uniform cut.
  EXPECT_THAT(MakeSlicePlan(config, base, {mask, Shape::kMasked, replaced.get()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name)));
}

TEST(SlicePlan, BiasesThatTheBaseHasNotComeForAllThreeProjections) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  const Mask mask = RandomMask(config, 13);
  ModelConfig biased = config;
  biased.mlp_bias = true;
  for (const bool whole : {true, false}) {
    ASSERT_OK_AND_ASSIGN(const auto replaced, ScratchTensors::Create());
    for (const TensorInfo& info : TensorTable(biased)) {
      if (info.shape.size() != 1 || !absl::EndsWith(info.name, "_proj.bias")) continue;
      if (!whole && info.role == TensorRole::kUpBias) continue;
      TensorSpec spec{info.name, DType::kBF16, info.shape};
      if (info.axes[0] == Axis::kNeuron) spec.shape[0] = 13;
      ASSERT_OK(replaced->Add(spec, std::string(static_cast<size_t>(ByteSize(spec)), 'b')));
    }
    ASSERT_OK(replaced->Seal());
    const auto plan = MakeSlicePlan(config, base, {mask, Shape::kUniform, replaced.get()});
    if (!whole) {
      EXPECT_THAT(plan, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("up_proj.bias")));
      continue;
    }
    ASSERT_OK(plan);
    biased.intermediate_size = 13;
    int64_t elements = 0;
    for (const TensorSlice& slice : *plan) elements += ByteSize(slice.spec) / 2;
    EXPECT_EQ(elements, CountParameters(biased));
    biased.intermediate_size = config.intermediate_size;
  }
}

// Shapes around the size of the buffer, and an axis in the middle.
TEST(StreamSlice, TensorsLargerThanTheBufferEqualAnElementWiseCopy) {
  std::mt19937 random(5);
  const std::vector<std::pair<std::vector<int64_t>, int>> cases = {
      {{3, 700'001}, 1},   {{3, 700'001}, 0},   {{5, 524'288}, 0},
      {{1, 1'100'000}, 1}, {{1'000, 1'200}, 1}, {{1'000, 1'200}, 0},
      {{3, 7, 5}, 1},      {{3, 7, 1}, 1},      {{3, 7, 5}, 2}};
  for (const auto& [shape, axis] : cases) {
    TensorView view{DType::kBF16, shape, {}};
    const std::string bytes = RandomBytes(
        2 * std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()), random);
    view.bytes = bytes;
    std::vector<int32_t> kept;
    for (int32_t channel = 0; channel < shape[static_cast<size_t>(axis)]; ++channel) {
      if (channel == 0 || random() % 8 != 0) kept.push_back(channel);
    }
    TensorSlice slice;
    slice.axis = axis;
    slice.kept = &kept;
    const auto sliced = Sliced(slice, view);
    ASSERT_OK(sliced);
    EXPECT_TRUE(*sliced == NaiveSlice(view, axis, kept)) << testing::PrintToString(shape);
  }
}

TEST(StreamSlice, ReadsWhereTheFileIsNotAligned) {
  std::mt19937 random(5);
  const std::string bytes = RandomBytes(1 + 4 * 6 * 8, random);
  const TensorView view{DType::kF32, {6, 8}, std::string_view(bytes).substr(1)};
  const std::vector<int32_t> kept = {0, 3, 4, 7};
  TensorSlice slice;
  slice.axis = 1;
  slice.kept = &kept;
  EXPECT_THAT(Sliced(slice, view), IsOkAndHolds(NaiveSlice(view, 1, kept)));
}

TEST(StreamSlice, AnErrorOfTheSinkEndsIt) {
  const std::string bytes(size_t{8} << 20, 'x');
  const std::vector<int32_t> kept = {0, 1, 3};
  for (const int axis : {-1, 0, 1}) {
    TensorSlice slice;
    slice.axis = axis;
    slice.kept = &kept;
    int calls = 0;
    const TensorView view{DType::kU8, {4, 2 << 20}, bytes};
    EXPECT_THAT(StreamSlice(slice, view,
                            [&](std::string_view) {
                              ++calls;
                              return absl::ResourceExhaustedError("the disk is full");
                            }),
                StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_EQ(calls, 1);
  }
}

TEST(SlicePlan, RefusesMasksThatDoNotFit) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  const std::vector<int32_t> fine = {1, 5, 39};
  const std::vector<std::pair<std::vector<std::vector<int32_t>>, std::string>> cases = {
      {{fine, fine}, "2 layers; the base model has 3"},
      {{}, "0 layers"},
      {{fine, fine, fine, fine}, "4 layers"},
      {{fine, {}, fine}, "layer 1 keeps no neuron"},
      {{fine, fine, {1, 2}}, "layer 2 keeps 2 neurons"},
      {{fine, {1, 5, 40}, fine}, "layer 1 has channel 40"},
      {{{-1, 5, 6}, fine, fine}, "layer 0 has channel -1"},
      {{fine, fine, {5, 1, 39}}, "layer 2 has channel 1"},
      {{fine, fine, {5, 5, 39}}, "layer 2 has channel 5"}};
  for (const auto& [kept, named] : cases) {
    EXPECT_THAT(MakeSlicePlan(config, base, Mask{kept}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(named)));
  }
}

TEST(SlicePlan, RefusesABaseThatIsNotItsConfig) {
  const ModelConfig config = SmallConfig();
  const TempDir folder;
  const SafetensorsFolder base = OpenBase(folder, config, DType::kBF16);
  ModelConfig other = config;
  other.hidden_size = 25;
  EXPECT_THAT(MakeSlicePlan(other, base, RandomMask(other, 3)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.embed_tokens.weight of the base has shape [50, 24]; its "
                                 "config says [50, 25]")));
  other = config;
  other.num_layers = 4;
  EXPECT_THAT(MakeSlicePlan(other, base, RandomMask(other, 3)),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.layers.3.")));
}

}  // namespace
}  // namespace secateur
