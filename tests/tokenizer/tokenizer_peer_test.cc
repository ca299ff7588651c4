// Real tokenizers against Transformers: every token id, byte range and decoded text of real
// documents.

#include <filesystem>
#include <thread>

#include "server/base/mapped_file.h"
#include "server/tokenizer/tokenizer.h"
#include "tests/support/status_matchers.h"
#include "tests/tokenizer/transformers_peer.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

// The parameter is the environment variable that names the model folder.
class RealTokenizer : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    model_ = Environment(GetParam());
    if (model_.empty()) GTEST_SKIP() << GetParam() << " names no model folder";
    const auto json = MappedFile::Open(model_ + "/tokenizer.json");
    ASSERT_OK(json);
    auto tokenizer = Tokenizer::FromJson((*json)->bytes());
    ASSERT_OK(tokenizer);
    tokenizer_ = *std::move(tokenizer);
  }

  std::string model_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(RealTokenizer, AgreesWithTransformersOnEveryScript) {
  if (Environment("SECATEUR_TEST_PYTHON").empty()) {
    GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
  }
  CompareWithTransformers(model_, *tokenizer_, {kMultilingual});
}

TEST_P(RealTokenizer, AgreesWithTransformersOnTheTestData) {
  const std::string data = Environment("SECATEUR_TEST_DATA");
  if (data.empty()) GTEST_SKIP() << "SECATEUR_TEST_DATA names no folder of corpora";
  if (Environment("SECATEUR_TEST_PYTHON").empty()) {
    GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
  }
  std::vector<std::string> files;
  for (const char* part : {"profile", "eval"}) {
    for (const auto& entry : fs::directory_iterator(fs::path(data) / part)) {
      if (entry.path().extension() == ".jsonl") files.push_back(entry.path().string());
    }
  }
  CompareWithTransformers(model_, *tokenizer_, files);
}

TEST_P(RealTokenizer, ThreadsThatShareItGetTheSameIds) {
  const std::vector<std::string> texts = TextsOf(kMultilingual);
  ASSERT_FALSE(texts.empty());
  std::vector<std::vector<std::vector<uint32_t>>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) {
    threads.emplace_back([&] {
      for (const std::string& text : texts) ids.push_back(tokenizer_->Encode(text)->ids);
    });
  }
  for (std::thread& thread : threads) thread.join();
  // Its cache is warm by now; that must make no difference either.
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<uint32_t> expected = tokenizer_->Encode(texts[i])->ids;
    for (const auto& ids : found) EXPECT_EQ(ids[i], expected);
  }
}

TEST_P(RealTokenizer, AMebibyteIsEncoded) {
  std::string text;
  const std::vector<std::string> texts = TextsOf(kMultilingual);
  ASSERT_FALSE(texts.empty());
  while (text.size() < 1 << 20) {
    for (const std::string& part : texts) text += part;
  }
  ASSERT_OK_AND_ASSIGN(const auto encoding, tokenizer_->Encode(text));
  EXPECT_EQ(encoding.offsets.back().second, text.size());
}

INSTANTIATE_TEST_SUITE_P(SmolLM2, RealTokenizer, testing::Values("SECATEUR_SMOLLM2"));
INSTANTIATE_TEST_SUITE_P(Gemma3, RealTokenizer, testing::Values("SECATEUR_GEMMA3"));

}  // namespace
}  // namespace secateur
