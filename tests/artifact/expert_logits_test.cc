// What an expert's files compute: the same as the base with the mask applied, for every family; and
// the same in stock Transformers.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "server/model/torch_guard.h"
#include "server/model/transformer.h"
#include "tests/artifact/expert_folder.h"
#include "tests/artifact/random_base.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

std::unique_ptr<Transformer> LoadModel(const std::string& folder) {
  RunContext context;
  auto opened = ModelFolder::Open(folder);
  EXPECT_OK(opened);
  auto model = Transformer::Load(*std::move(opened), Device{}, context);
  EXPECT_OK(model);
  return *std::move(model);
}

// Two sequences of random tokens, the first one as long as a sliding window and some.
PackedBatch SomeTokens(const ModelConfig& config, int64_t first_length) {
  std::mt19937 random(11);
  PackedBatch batch;
  batch.offsets = {0, first_length, first_length + 9};
  for (int64_t i = 0; i < batch.offsets.back(); ++i) {
    batch.ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(config.vocabulary_size)));
  }
  return batch;
}

at::Tensor LogitsOf(const Transformer& model, const PackedBatch& batch) {
  RunContext context;
  const auto hidden = model.Forward(batch, context);
  EXPECT_OK(hidden);
  const auto logits = model.Logits(*hidden);
  EXPECT_OK(logits);
  return *logits;
}

at::Tensor MaskedLogits(const Transformer& base, const Mask& mask, const PackedBatch& batch) {
  const auto runner = LayerRunner::Create(base.config(), base.device(), batch);
  EXPECT_OK(runner);
  at::Tensor hidden = runner->Embed(base.outer()).value();
  for (int64_t layer = 0; layer < base.config().num_layers; ++layer) {
    const at::Tensor kept = at::zeros({base.config().intermediate_size});
    for (const int32_t channel : mask.kept[static_cast<size_t>(layer)]) kept[channel] = 1;
    hidden = runner->Forward(layer, base.layer(layer), hidden, nullptr, kept).value();
  }
  return base.Logits(runner->FinalNorm(base.outer(), hidden).value()).value();
}

double RelativeDifference(const at::Tensor& found, const at::Tensor& wanted) {
  return GuardTorch([&] {
           return ((found - wanted).abs().max() / wanted.abs().max()).to(at::kDouble).item<double>();
         })
      .value();
}

class ExpertOfFamily : public testing::TestWithParam<std::string> {};

TEST_P(ExpertOfFamily, ComputesWhatTheMaskedBaseComputes) {
  const TempDir folder;
  WriteTinyModel(GetParam(), folder.path());
  const auto base = LoadModel(folder.path());
  const int64_t m = base->config().intermediate_size;
  const PackedBatch batch = SomeTokens(base->config(), 20);
  for (const int64_t width : {int64_t{1}, m / 2 + 1, m}) {
    const TempDir expert_folder;
    const Mask mask = RandomMask(base->config(), width);
    ASSERT_OK(WriteExpertFolder(base->folder(), mask, expert_folder.path(), {20'000, 2}));
    const auto expert = LoadModel(expert_folder.path());
    EXPECT_EQ(expert->config().intermediate_size, width);
    EXPECT_LE(RelativeDifference(LogitsOf(*expert, batch), MaskedLogits(*base, mask, batch)), 1e-5)
        << "width " << width;
    ModelConfig narrow = base->config();
    narrow.intermediate_size = width;
    EXPECT_EQ(CountParameters(expert->config()), CountParameters(narrow));
  }
}

// Runs transformers_peer.py on an expert of `base` and compares its logits with ours.
void CompareWithTransformers(const Transformer& base, int64_t width, double tolerance) {
  const char* python = std::getenv("SECATEUR_TEST_PYTHON");
  if (python == nullptr) GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
  const TempDir folder;
  const std::string expert_folder = folder.Join("expert");
  const std::string output = folder.Join("logits");
  const std::string printed = folder.Join("printed");
  const Mask mask = RandomMask(base.config(), width);
  ASSERT_OK(WriteExpertFolder(base.folder(), mask, expert_folder, {30'000'000, 2}));
  PackedBatch batch = SomeTokens(base.config(), 40);
  batch.ids.resize(40);
  batch.offsets = {0, 40};
  const std::string command =
      StrCat("\"", python, "\" \"", SECATEUR_ARTIFACT_TESTS, "/transformers_peer.py\" \"",
             expert_folder, "\" \"", output, "\" ", absl::StrJoin(batch.ids, ","), " > \"", printed,
             "\"");
  ASSERT_EQ(std::system(command.c_str()), 0);

  const auto expert = LoadModel(expert_folder);
  int64_t parameters = 0;
  std::ifstream(printed) >> parameters;
  EXPECT_EQ(parameters, CountParameters(expert->config()));
  std::stringstream bytes;
  bytes << std::ifstream(output, std::ios::binary).rdbuf();
  std::string raw = bytes.str();
  const int64_t vocabulary = expert->config().vocabulary_size;
  ASSERT_EQ(raw.size(), static_cast<size_t>(40 * vocabulary) * sizeof(float));
  const at::Tensor theirs = at::from_blob(raw.data(), {40, vocabulary}, at::kFloat);
  const double difference = RelativeDifference(LogitsOf(*expert, batch), theirs);
  EXPECT_LE(difference, tolerance);
  std::cout << "largest difference of logits from Transformers: " << difference << " of the largest\n";
}

TEST_P(ExpertOfFamily, LoadsInTransformersWithoutWarningsAndGivesTheSameLogits) {
  const TempDir folder;
  WriteTinyModel(GetParam(), folder.path());
  CompareWithTransformers(*LoadModel(folder.path()), 13, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Tiny, ExpertOfFamily, testing::ValuesIn(TinyModelNames()));

class ExpertOfRealModel : public testing::TestWithParam<const char*> {};

TEST_P(ExpertOfRealModel, LoadsInTransformersWithoutWarningsAndGivesTheSameLogits) {
  const char* folder = std::getenv(GetParam());
  if (folder == nullptr) GTEST_SKIP() << GetParam() << " names no model folder";
  const auto base = LoadModel(folder);
  CompareWithTransformers(*base, base->config().intermediate_size * 5 / 8, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Real, ExpertOfRealModel,
                         testing::Values("SECATEUR_SMOLLM2", "SECATEUR_GEMMA3"));

}  // namespace
}  // namespace secateur
