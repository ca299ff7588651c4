// Real tokenizers against Transformers: every token id, byte range and decoded text of real
// documents.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/base/digest.h"
#include "server/base/mapped_file.h"
#include "server/tokenizer/tokenizer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

const std::string kMultilingual = SECATEUR_TESTS "/data/multilingual.jsonl";

// The value of an environment variable, empty if it is not set.
std::string Environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

std::string DigestOf(const std::vector<uint32_t>& integers) {
  return Sha256Of({reinterpret_cast<const char*>(integers.data()), 4 * integers.size()}).Hex();
}

// The line that tokenizer_peer.py writes for a document.
absl::StatusOr<std::string> LineOf(const Tokenizer& tokenizer, const std::string& text) {
  const auto encoding = tokenizer.Encode(text);
  if (!encoding.ok()) return encoding.status();
  const auto decoded = tokenizer.Decode(encoding->ids);
  if (!decoded.ok()) return decoded.status();
  std::vector<uint32_t> offsets;
  for (const auto& [begin, end] : encoding->offsets) {
    offsets.push_back(begin);
    offsets.push_back(end);
  }
  return std::to_string(encoding->ids.size()) + " " + DigestOf(encoding->ids) + " " +
         DigestOf(offsets) + " " + Sha256Of(*decoded).Hex();
}

std::vector<std::string> TextsOf(const std::string& file) {
  std::vector<std::string> texts;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    texts.push_back(nlohmann::json::parse(line)["text"]);
  }
  return texts;
}

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

  // Asks Transformers in one process, then compares document by document.
  void CompareWithTransformers(const std::vector<std::string>& files);

  std::string model_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

void RealTokenizer::CompareWithTransformers(const std::vector<std::string>& files) {
  const TempDir folder;
  std::string list;
  for (const std::string& file : files) list += file + "\n";
  const std::string output = folder.Join("output");
  const std::string command = "\"" + Environment("SECATEUR_TEST_PYTHON") +
                              "\" \"" SECATEUR_TESTS "/tokenizer/tokenizer_peer.py\" \"" + model_ +
                              "\" \"" + folder.Write("list", list) + "\" \"" + output + "\"";
  ASSERT_EQ(std::system(command.c_str()), 0) << command;

  std::ifstream expected(output);
  std::string line;
  ASSERT_TRUE(std::getline(expected, line));
  EXPECT_EQ(std::to_string(tokenizer_->vocabulary_size()), line);
  size_t documents = 0;
  for (const std::string& file : files) {
    size_t number = 0;
    for (const std::string& text : TextsOf(file)) {
      ++number;
      ASSERT_TRUE(std::getline(expected, line)) << file;
      EXPECT_THAT(LineOf(*tokenizer_, text), IsOkAndHolds(line)) << file << " line " << number;
      ++documents;
    }
  }
  EXPECT_FALSE(std::getline(expected, line)) << line;
  EXPECT_GT(documents, 0u);
  RecordProperty("documents", static_cast<int>(documents));
}

TEST_P(RealTokenizer, AgreesWithTransformersOnEveryScript) {
  if (Environment("SECATEUR_TEST_PYTHON").empty()) {
    GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
  }
  CompareWithTransformers({kMultilingual});
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
  CompareWithTransformers(files);
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
