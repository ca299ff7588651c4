#include "server/evaluate/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string ReadFile(const std::string& path) {
  std::stringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

// A tiny base of a family, its expert of 13 neurons on disk, and ways to damage it.
class Verify : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), base_folder_.path()));
    base_ = LoadModel(base_folder_.path());
    mask_ = RandomMask(base_->config(), 13);
    sample_ = SomeTokens(base_->config());
    ASSERT_OK(WriteExpertFolder(base_->folder(), mask_, expert_folder_.path()));
    weights_ = ReadFile(expert_folder_.Join("model.safetensors"));
    config_ = ReadFile(expert_folder_.Join("config.json"));
  }

  // An expert with `replaced` is right by the cut that brings it, and wrong without, at `name`.
  void ExpectTakenFromTheCutAlone(Shape shape, const ScratchTensors& replaced,
                                  const std::string& name) {
    const Cut cut(mask_, shape, &replaced);
    const TempDir folder;
    ASSERT_OK(WriteExpertFolder(base_->folder(), cut, folder.path()));
    ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(folder.path()));
    RunContext context;
    ASSERT_OK_AND_ASSIGN(const Verification found,
                         VerifyExpert(*base_, cut, *expert, sample_, {}, context));
    EXPECT_LE(found.max_logit_error, 1e-5);
    EXPECT_THAT(VerifyExpert(*base_, {mask_, shape}, *expert, sample_, {}, context),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(name)));
  }

  absl::StatusOr<Verification> Run(const Cut& mask, const VerifyOptions& options = {}) {
    RunContext context;
    const auto expert = ModelFolder::Open(expert_folder_.path());
    if (!expert.ok()) return expert.status();
    return VerifyExpert(*base_, mask, **expert, sample_, options, context);
  }

  // Where a tensor's bytes begin in the weights file.
  size_t Offset(const std::string& tensor) {
    const auto expert = SafetensorsFolder::Open(expert_folder_.path());
    EXPECT_OK(expert);
    const std::string_view bytes = expert->Find(tensor)->bytes;
    return weights_.find(bytes);
  }

  const TempDir base_folder_;
  const TempDir expert_folder_;
  std::unique_ptr<Transformer> base_;
  Mask mask_;
  PackedBatch sample_;
  std::string weights_;
  std::string config_;
};

TEST_P(Verify, AnExpertIsItsReference) {
  ASSERT_OK_AND_ASSIGN(const Verification found, Run(mask_));
  EXPECT_EQ(found.tokens, 90);
  EXPECT_LE(found.max_layer_error, 1e-5);
  EXPECT_LE(found.max_logit_error, 1e-5);
  EXPECT_GT(found.expert_nats_per_token, 0);
}

TEST_P(Verify, AMaskedExpertIsItsReferenceWithADifferentCountInEveryLayer) {
  for (size_t layer = 0; layer < mask_.kept.size(); ++layer) {
    mask_.kept[layer].resize(13 - layer);
  }
  const TempDir masked;
  ASSERT_OK(WriteExpertFolder(base_->folder(), {mask_, Shape::kMasked}, masked.path()));
  ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(masked.path()));
  EXPECT_EQ(expert->config().intermediate_size, base_->config().intermediate_size);
  RunContext context;
  const auto run = [&](const Cut& cut) {
    return VerifyExpert(*base_, cut, *expert, sample_, {}, context);
  };
  ASSERT_OK_AND_ASSIGN(const Verification found, run({mask_, Shape::kMasked}));
  EXPECT_LE(found.max_logit_error, 1e-5);
  mask_.kept[0].pop_back();
  EXPECT_THAT(run({mask_, Shape::kMasked}), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_P(Verify, AMaskedExpertIsItsReferenceWithPartOfItsAttention) {
  RemoveAttention(base_->config(), mask_);
  const Cut cut(mask_, Shape::kMasked);
  const TempDir masked;
  ASSERT_OK(WriteExpertFolder(base_->folder(), cut, masked.path()));
  ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(masked.path()));
  RunContext context;
  const auto run = [&](const Mask& mask) {
    return VerifyExpert(*base_, {mask, Shape::kMasked}, *expert, sample_, {}, context);
  };
  ASSERT_OK_AND_ASSIGN(const Verification found, run(mask_));
  EXPECT_LE(found.max_layer_error, 1e-5);
  EXPECT_LE(found.max_logit_error, 1e-5);
  const std::pair<std::vector<int32_t> KeptAttention::*, const char*> parts[] = {
      {&KeptAttention::query, "q_proj"},
      {&KeptAttention::key, "k_proj"},
      {&KeptAttention::value, "v_proj"},
      {&KeptAttention::output, "o_proj"}};
  for (const auto& [rows, tensor] : parts) {
    Mask other = mask_;
    (other.attention[1].*rows).pop_back();
    EXPECT_THAT(run(other),
                StatusIs(absl::StatusCode::kDataLoss,
                         AllOf(HasSubstr("model.layers.1.self_attn."), HasSubstr(tensor))));
  }
  Mask other = mask_;
  other.attention.pop_back();
  EXPECT_THAT(run(other), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("attention of")));
}

// Of models with more than one KV head.
class VerifyOfGroups : public Verify {};

// Sliced and masked, with the heads of both.
TEST_P(VerifyOfGroups, AnExpertIsItsReferenceWithoutSomeKvHeadGroups) {
  const int64_t groups = base_->config().num_kv_heads;
  ASSERT_GT(groups, 1) << "nothing can go";
  for (int64_t kept = 1; kept < groups; ++kept) {
    RemoveGroups(base_->config(), kept, mask_);
    for (const Shape shape : {Shape::kUniform, Shape::kMasked}) {
      const TempDir folder;
      ASSERT_OK(WriteExpertFolder(base_->folder(), {mask_, shape}, folder.path()));
      ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(folder.path()));
      EXPECT_EQ(expert->config().num_kv_heads, shape == Shape::kUniform ? kept : groups);
      EXPECT_EQ(expert->config().attention_scale, base_->config().attention_scale);
      RunContext context;
      ASSERT_OK_AND_ASSIGN(const Verification found,
                           VerifyExpert(*base_, {mask_, shape}, *expert, sample_, {}, context));
      EXPECT_LE(found.max_layer_error, 1e-5);
      EXPECT_LE(found.max_logit_error, 1e-5);
      Mask other = mask_;
      RemoveGroups(base_->config(), kept, other);
      std::rotate(other.attention.begin(), other.attention.begin() + 1, other.attention.end());
      EXPECT_THAT(VerifyExpert(*base_, {other, shape}, *expert, sample_, {}, context),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr("self_attn")));
      other.attention.clear();
      EXPECT_THAT(VerifyExpert(*base_, {other, shape}, *expert, sample_, {}, context),
                  StatusIs(absl::StatusCode::kDataLoss));
    }
  }
}

// Every third row stays, so that the special tokens (270, 271) and most others get another number.
TEST_P(Verify, AnExpertWithATrimmedVocabularyIsItsReferenceOnTheRowsItKeeps) {
  const auto rows = static_cast<int32_t>(base_->config().vocabulary_size);
  for (int32_t row = 0; row < rows; row += 3) mask_.vocabulary.push_back(row);
  const TempDir trimmed;
  ASSERT_OK(WriteExpertFolder(base_->folder(), mask_, trimmed.path()));
  auto config = base_->folder().config_json();
  config["intermediate_size"] = 13;
  config["vocab_size"] = mask_.vocabulary.size();
  config["bos_token_id"] = 90;
  config["eos_token_id"] = 89;
  trimmed.Write("config.json", config.dump());
  for (int32_t& id : sample_.ids) id /= 3;
  ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(trimmed.path()));
  RunContext context;
  const auto run = [&](const Mask& mask, const nlohmann::ordered_json& wanted) {
    return VerifyExpert(*base_, mask, *expert, sample_, {.config = &wanted}, context);
  };
  ASSERT_OK_AND_ASSIGN(const Verification found, run(mask_, config));
  EXPECT_EQ(found.tokens, 90);
  EXPECT_LE(found.max_layer_error, 1e-5);
  EXPECT_LE(found.max_logit_error, 1e-5);

  Mask other = mask_;
  other.vocabulary[4] += 1;
  EXPECT_THAT(run(other, config),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("row 4 of the expert"), HasSubstr("row 13 of the base"))));
  other.vocabulary.pop_back();
  EXPECT_THAT(run(other, config), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("rows")));
  other.vocabulary.clear();
  EXPECT_THAT(run(other, config), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("rows")));
  other.vocabulary = {rows};
  EXPECT_THAT(run(other, config), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("row")));
  config["eos_token_id"] = 88;
  EXPECT_THAT(run(mask_, config),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("eos_token_id is 89")));
  sample_.ids[3] = static_cast<int32_t>(mask_.vocabulary.size());
  config["eos_token_id"] = 89;
  EXPECT_THAT(run(mask_, config),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the sample has the id")));
}

TEST_P(Verify, AReplacedTensorIsPartOfTheReference) {
  const TensorInfo* down = nullptr;
  for (const TensorInfo& info : base_->folder().table()) {
    if (info.role == TensorRole::kDown) down = &info;
  }
  ASSERT_NE(down, nullptr);
  const TensorView base = base_->folder().tensors().Find(down->name).value();
  for (const Shape shape : {Shape::kUniform, Shape::kMasked}) {
    const auto columns = shape == Shape::kUniform
                             ? int64_t{13}
                             : static_cast<int64_t>(base_->config().intermediate_size);
    // Half the base's first columns: values that no cut of the base makes.
    ASSERT_OK_AND_ASSIGN(const at::Tensor whole, LoadTensor(base, Device{}));
    at::Tensor half = (whole.narrow(1, 0, columns) * 0.5).contiguous();
    if (shape == Shape::kMasked) {
      for (int32_t channel = 0; channel < columns; ++channel) {
        const auto& kept = mask_.kept.back();
        if (!std::binary_search(kept.begin(), kept.end(), channel)) half.select(1, channel).zero_();
      }
    }
    half = half.to(base.dtype == DType::kF32 ? at::kFloat : at::kBFloat16).contiguous();
    ASSERT_OK_AND_ASSIGN(const auto replaced, ScratchTensors::Create());
    ASSERT_OK(replaced->Add({down->name, base.dtype, half.sizes().vec()},
                            {static_cast<const char*>(half.const_data_ptr()), half.nbytes()}));
    ASSERT_OK(replaced->Seal());
    ExpectTakenFromTheCutAlone(shape, *replaced, down->name);
  }
}

class VerifyOfLlama : public Verify {};

TEST_P(VerifyOfLlama, TakesOtherBiasesThanTheBases) {
  for (const Shape shape : {Shape::kUniform, Shape::kMasked}) {
    const auto biases = SomeFfnBiases(base_->folder(), mask_, shape);
    ExpectTakenFromTheCutAlone(shape, *biases, "bias");  // of config.json, or a tensor
  }
}

TEST_P(Verify, FindsOneFlippedMantissaBitInAnyTensor) {
  ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(expert_folder_.path()));
  std::mt19937 random(1);
  for (const TensorInfo& info : expert->table()) {
    const TensorView view = expert->tensors().Find(info.name).value();
    const auto items = view.bytes.size() / static_cast<size_t>(ItemSize(view.dtype));
    const size_t at = random() % items * static_cast<size_t>(ItemSize(view.dtype));
    std::string damaged = weights_;
    damaged[Offset(info.name) + at] ^= 1;
    expert_folder_.Write("model.safetensors", damaged);
    EXPECT_THAT(Run(mask_), StatusIs(absl::StatusCode::kDataLoss,
                                     AllOf(HasSubstr(info.name), HasSubstr("of the expert is"))));
    expert_folder_.Write("model.safetensors", weights_);
  }
  EXPECT_OK(Run(mask_));
}

TEST_P(Verify, FindsAMaskOfWhichOneChannelIsAnother) {
  Mask other = mask_;
  std::vector<int32_t>& kept = other.kept.back();
  for (int32_t channel = 0;; ++channel) {
    if (std::find(kept.begin(), kept.end(), channel) != kept.end()) continue;
    kept[4] = channel;
    std::sort(kept.begin(), kept.end());
    break;
  }
  const int64_t last = base_->config().num_layers - 1;
  EXPECT_THAT(Run(other), StatusIs(absl::StatusCode::kDataLoss,
                                   HasSubstr(StrCat("model.layers.", last, ".mlp."))));
}

TEST_P(Verify, FindsTwoRowsThatChangedPlaces) {
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  ASSERT_OK_AND_ASSIGN(const TensorView view, base_->folder().tensors().Find(name));
  const size_t row = view.bytes.size() / static_cast<size_t>(view.shape[0]);
  const size_t at = Offset(name);
  std::string damaged = weights_;
  std::swap_ranges(damaged.begin() + static_cast<std::ptrdiff_t>(at),
                   damaged.begin() + static_cast<std::ptrdiff_t>(at + row),
                   damaged.begin() + static_cast<std::ptrdiff_t>(at + row));
  expert_folder_.Write("model.safetensors", damaged);
  EXPECT_THAT(Run(mask_), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(name)));
}

TEST_P(Verify, FindsAConfigThatComputesSomethingElse) {
  auto config = nlohmann::ordered_json::parse(config_);
  config["rms_norm_eps"] = 0.5;
  expert_folder_.Write("config.json", config.dump());
  EXPECT_THAT(Run(mask_), StatusIs(absl::StatusCode::kDataLoss,
                                   AllOf(HasSubstr("rms_norm_eps"), HasSubstr("0.5"))));
  config = nlohmann::ordered_json::parse(config_);
  config.erase("rms_norm_eps");
  expert_folder_.Write("config.json", config.dump());
  EXPECT_THAT(Run(mask_), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("rms_norm_eps")));
  config = nlohmann::ordered_json::parse(config_);
  config["unknown_key_of_mine"] = 1;
  expert_folder_.Write("config.json", config.dump());
  EXPECT_THAT(Run(mask_), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("keys")));
}

// The weights are right in all other tests; a tolerance that nothing meets shows what the
// comparison of the residual streams says.
TEST_P(Verify, NamesTheLayerAndBothNumbersWhenTheStreamsDiffer) {
  EXPECT_THAT(Run(mask_, {.tolerance = -1}),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("layer 0"), HasSubstr("differs from its reference by"),
                             HasSubstr("-1 x the largest value"))));
}

TEST_P(Verify, RefusesAMaskOrASampleThatDoesNotFit) {
  Mask mask = mask_;
  mask.kept.pop_back();
  EXPECT_THAT(Run(mask), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layers")));
  mask = mask_;
  mask.kept[1][12] = static_cast<int32_t>(base_->config().intermediate_size);
  EXPECT_THAT(Run(mask), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 1")));
  mask = mask_;
  mask.kept[1].pop_back();
  EXPECT_THAT(Run(mask), StatusIs(absl::StatusCode::kDataLoss,
                                  AllOf(HasSubstr("layer 1"), HasSubstr("13"), HasSubstr("12"))));
  sample_.ids[3] = static_cast<int32_t>(base_->config().vocabulary_size);
  EXPECT_THAT(Run(mask_), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(Verify, ReportsLayersAndStopsWhenCancelled) {
  ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(expert_folder_.path()));
  RunContext* running = nullptr;
  std::vector<int64_t> done;
  RunContext context([&](const Progress& progress) {
    EXPECT_EQ(progress.phase, "verify");
    EXPECT_EQ(progress.total, base_->config().num_layers);
    done.push_back(progress.done);
    if (progress.done == 1) running->Cancel();
  });
  running = &context;
  EXPECT_THAT(VerifyExpert(*base_, mask_, *expert, sample_, {}, context),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(done, testing::ElementsAre(1));
}

std::vector<std::string> NamesWithGroups() {
  std::vector<std::string> names;
  for (const TinyModel& model : TinyModels()) {
    if (model.config.value("num_key_value_heads", 2) > 1) names.push_back(model.name);
  }
  return names;
}

// Every tensor that a family can have, and every element type.
INSTANTIATE_TEST_SUITE_P(Tiny, VerifyOfLlama, testing::ValuesIn(TinyLlamaNames()),
                         [](const auto& family) { return family.param; });
INSTANTIATE_TEST_SUITE_P(Tiny, Verify, testing::ValuesIn(TinyModelNames()),
                         [](const auto& family) { return family.param; });
INSTANTIATE_TEST_SUITE_P(Tiny, VerifyOfGroups, testing::ValuesIn(NamesWithGroups()),
                         [](const auto& family) { return family.param; });

TEST(VerifyRealModel, AnExpertIsItsReference) {
  const char* path = std::getenv("SECATEUR_SMOLLM2");
  if (path == nullptr) GTEST_SKIP() << "SECATEUR_SMOLLM2 names no model folder";
  RunContext context;
  const auto base = LoadModel(path);
  const Mask mask = RandomMask(base->config(), 992);
  const TempDir expert_folder;
  ASSERT_OK(WriteExpertFolder(base->folder(), mask, expert_folder.path()));
  ASSERT_OK_AND_ASSIGN(const auto expert, ModelFolder::Open(expert_folder.path()));
  ASSERT_OK_AND_ASSIGN(const Verification found,
                       VerifyExpert(*base, mask, *expert, SomeTokens(base->config()), {}, context));
  // What sums of 1536 and of 992 terms in float32 differ by depends on the number of threads.
  EXPECT_LE(found.max_layer_error, 1e-4);
  EXPECT_LE(found.max_logit_error, 1e-4);
}

}  // namespace
}  // namespace secateur
