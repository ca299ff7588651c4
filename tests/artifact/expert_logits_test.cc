// What an expert's files compute: the same as the base with the mask applied, for every family; and
// the same in stock Transformers.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "server/model/torch_guard.h"
#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

constexpr size_t kPeerTokens = 40;

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
    for (const int32_t channel : mask.kept[static_cast<size_t>(layer)]) {
      kept.data_ptr<float>()[channel] = 1;
    }
    hidden = runner->Forward(layer, base.layer(layer), hidden, nullptr, kept).value();
  }
  return base.Logits(runner->FinalNorm(base.outer(), hidden).value()).value();
}

double RelativeDifference(const at::Tensor& found, const at::Tensor& wanted) {
  return GuardTorch([&] {
           return ((found - wanted).abs().max() / wanted.abs().max())
               .to(at::kDouble)
               .item<double>();
         })
      .value();
}

class ExpertOfFamily : public testing::TestWithParam<std::string> {};

TEST_P(ExpertOfFamily, ComputesWhatTheMaskedBaseComputes) {
  const TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder.path()));
  const auto base = LoadModel(folder.path());
  const int64_t m = base->config().intermediate_size;
  const PackedBatch batch = SomeTokens(base->config());
  // Not narrower: a norm behind one or two neurons makes rounding as large as what it rounds.
  for (const int64_t width : {m / 8, m / 2 + 1, m}) {
    const TempDir expert_folder;
    const Mask mask = RandomMask(base->config(), width);
    ASSERT_OK(WriteExpertFolder(base->folder(), mask, expert_folder.path(), {20'000, 2}));
    const auto expert = LoadModel(expert_folder.path());
    EXPECT_EQ(expert->config().intermediate_size, width);
    EXPECT_LE(RelativeDifference(LogitsOf(*expert, batch), MaskedLogits(*base, mask, batch)), 5e-5)
        << "width " << width;
    ModelConfig narrow = base->config();
    narrow.intermediate_size = width;
    int64_t elements = 0;
    for (const auto& [name, view] : expert->folder().tensors().tensors()) {
      elements += static_cast<int64_t>(view.bytes.size()) / ItemSize(view.dtype);
    }
    EXPECT_EQ(elements, CountParameters(narrow));
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, ExpertOfFamily, testing::ValuesIn(TinyModelNames()),
                         [](const auto& family) { return family.param; });

// An expert on disk and what Transformers made of it.
struct PeerCase {
  std::string folder;
  std::string output;
  int64_t parameters = 0;
};

class ExpertInTransformers : public testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("SECATEUR_TEST_PYTHON") == nullptr) {
      GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
    }
  }

  // A masked one has zeros in its attention, too.
  void AddExpert(const std::string& base_folder, int64_t width, Shape shape = Shape::kUniform) {
    const auto base = ModelFolder::Open(base_folder);
    ASSERT_OK(base);
    if (width == 0) width = (*base)->config().intermediate_size * 5 / 8;
    const std::string name = StrCat("expert", made_++);
    cases_.push_back({temp_.Join(name), temp_.Join(name + ".logits")});
    Mask mask = RandomMask((*base)->config(), width);
    if (shape == Shape::kMasked) RemoveAttention((*base)->config(), mask);
    ASSERT_OK(WriteExpertFolder(**base, {mask, shape}, cases_.back().folder, {30'000'000, 2}));
    batch_.ids = SomeTokens((*base)->config()).ids;
    batch_.ids.resize(kPeerTokens);
    batch_.offsets = {0, kPeerTokens};
  }

  // Without all KV head groups but one.
  void AddExpertOfOneGroup(const std::string& base_folder) {
    const auto base = ModelFolder::Open(base_folder);
    ASSERT_OK(base);
    const std::string name = StrCat("expert", made_++);
    cases_.push_back({temp_.Join(name), temp_.Join(name + ".logits")});
    Mask mask = RandomMask((*base)->config(), 64);
    RemoveGroups((*base)->config(), 1, mask);
    ASSERT_OK(WriteExpertFolder(**base, mask, cases_.back().folder));
  }

  // With biases that its base has not.
  void AddBiasedExpert(const std::string& base_folder, Shape shape) {
    const auto base = ModelFolder::Open(base_folder);
    ASSERT_OK(base);
    const std::string name = StrCat("expert", made_++);
    cases_.push_back({temp_.Join(name), temp_.Join(name + ".logits")});
    const Mask mask = RandomMask((*base)->config(), 64);
    const auto biases = SomeFfnBiases(**base, mask, shape);
    ASSERT_OK(WriteExpertFolder(**base, {mask, shape, biases.get()}, cases_.back().folder));
    const auto expert = ModelFolder::Open(cases_.back().folder);
    ASSERT_OK(expert);
    ASSERT_TRUE((*expert)->config().mlp_bias);
  }

  void RunPython() {
    const std::string printed = temp_.Join("printed");
    std::string command =
        StrCat("\"", std::getenv("SECATEUR_TEST_PYTHON"), "\" \"", SECATEUR_SOURCE_DIR,
               "/tests/artifact/transformers_peer.py\" ", absl::StrJoin(batch_.ids, ","));
    for (const PeerCase& one : cases_) command += StrCat(" ", one.folder, " ", one.output);
    ASSERT_EQ(std::system(StrCat(command, " > ", printed).c_str()), 0);
    std::ifstream counts(printed);
    for (PeerCase& one : cases_) counts >> one.parameters;
  }

  // Returns the largest difference of the logits, as a share of the largest logit.
  double Compare(const PeerCase& one) {
    const auto expert = LoadModel(one.folder);
    EXPECT_EQ(one.parameters, CountParameters(expert->config()));
    std::stringstream bytes;
    bytes << std::ifstream(one.output, std::ios::binary).rdbuf();
    std::string raw = bytes.str();
    const int64_t vocabulary = expert->config().vocabulary_size;
    EXPECT_EQ(raw.size(), kPeerTokens * static_cast<size_t>(vocabulary) * sizeof(float));
    const at::Tensor theirs = at::from_blob(raw.data(), {kPeerTokens, vocabulary}, at::kFloat);
    return RelativeDifference(LogitsOf(*expert, batch_), theirs);
  }

  const TempDir temp_;
  int made_ = 0;
  std::vector<PeerCase> cases_;
  PackedBatch batch_;
};

TEST_F(ExpertInTransformers, LoadsWithoutWarningsAndGivesTheSameLogitsForEveryFamily) {
  for (const std::string& name : TinyModelNames()) {
    const TempDir base;
    ASSERT_OK(WriteTinyModel(FindTinyModel(name), base.path()));
    ASSERT_NO_FATAL_FAILURE(AddExpert(base.path(), 13));
    ASSERT_NO_FATAL_FAILURE(AddExpert(base.path(), 64, Shape::kMasked));
  }
  ASSERT_NO_FATAL_FAILURE(RunPython());
  for (size_t i = 0; i < cases_.size(); ++i) {
    EXPECT_LE(Compare(cases_[i]), 1e-4) << TinyModelNames()[i / 2] << ", expert " << i % 2;
  }
}

TEST_F(ExpertInTransformers, LoadsFewerHeadsAndGivesTheSameLogitsForEveryFamily) {
  for (const std::string& name : TinyModelNames()) {
    const TempDir base;
    ASSERT_OK(WriteTinyModel(FindTinyModel(name), base.path()));
    if (cases_.empty()) {
      ASSERT_NO_FATAL_FAILURE(AddExpert(base.path(), 64));  // the text
    }
    ASSERT_NO_FATAL_FAILURE(AddExpertOfOneGroup(base.path()));
  }
  ASSERT_NO_FATAL_FAILURE(RunPython());
  for (const PeerCase& one : cases_) EXPECT_LE(Compare(one), 1e-4) << one.folder;
}

TEST_F(ExpertInTransformers, LoadsBiasesThatTheBaseHasNot) {
  const TempDir base;
  ASSERT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), base.path()));
  ASSERT_NO_FATAL_FAILURE(AddExpert(base.path(), 64));  // the text
  for (const Shape shape : {Shape::kUniform, Shape::kMasked}) {
    ASSERT_NO_FATAL_FAILURE(AddBiasedExpert(base.path(), shape));
  }
  ASSERT_NO_FATAL_FAILURE(RunPython());
  for (const PeerCase& one : cases_) EXPECT_LE(Compare(one), 1e-4) << one.folder;
}

TEST_F(ExpertInTransformers, LoadsWithoutWarningsAndGivesTheSameLogitsForRealModels) {
  for (const char* variable : {"SECATEUR_SMOLLM2", "SECATEUR_GEMMA3"}) {
    const char* folder = std::getenv(variable);
    if (folder == nullptr) GTEST_SKIP() << variable << " names no model folder";
    cases_.clear();
    ASSERT_NO_FATAL_FAILURE(AddExpert(folder, 0));
    ASSERT_NO_FATAL_FAILURE(RunPython());
    const double difference = Compare(cases_[0]);
    EXPECT_LE(difference, 1e-3) << variable;
    std::cout << variable << ": logits differ from Transformers' by " << difference << "\n";
  }
}

}  // namespace
}  // namespace secateur
