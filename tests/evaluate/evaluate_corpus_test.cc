#include "server/evaluate/evaluate_corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "server/base/status_macros.h"
#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;

std::string ReadFile(const std::string& path) {
  std::stringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

DocumentVisitor Visit(std::vector<std::string> texts) {
  return [texts](const std::function<absl::Status(const Document&)>& visit) -> absl::Status {
    for (const std::string& text : texts) {
      Document document;
      document.text = text;
      RETURN_IF_ERROR(visit(document));
    }
    return absl::OkStatus();
  };
}

std::vector<std::string> SomeTexts() {
  std::mt19937 random(9);
  std::vector<std::string> texts;
  for (int i = 0; i < 12; ++i) {
    std::string text = "é";
    for (unsigned words = random() % 20; words > 0; --words) text += StrCat(" the ", random() % 30);
    texts.push_back(text);
  }
  return texts;
}

class EvaluateFamily : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    model_ = LoadModel(folder_.path());
  }

  const TempDir folder_;
  std::unique_ptr<Transformer> model_;
  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromJson(TinyTokenizerJson()).value();
  RunContext context_;
};

TEST_P(EvaluateFamily, AFolderReadLayerByLayerGivesWhatTheResidentModelGives) {
  const Mask mask = RandomMask(model_->config(), 13);
  const TempDir expert_folder;
  ASSERT_OK(WriteExpertFolder(model_->folder(), mask, expert_folder.path()));
  const auto expert = LoadModel(expert_folder.path());
  const EvaluateOptions options{.max_tokens = 12, .block_tokens = 30};
  ASSERT_OK_AND_ASSIGN(const BitsPerByte resident,
                       EvaluateCorpus(*expert, *tokenizer_, Visit(SomeTexts()), options, context_));
  const StreamedModel streamed{expert->folder(), model_->outer(), model_->device()};
  ASSERT_OK_AND_ASSIGN(
      const BitsPerByte found,
      EvaluateCorpus(streamed, *tokenizer_, Visit(SomeTexts()), options, context_));
  EXPECT_EQ(found.nats, resident.nats);
  EXPECT_EQ(found.tokens, resident.tokens);
  EXPECT_EQ(found.bytes, resident.bytes);
  EXPECT_EQ(found.documents, 12);
}

// The tokenizer has one token a byte, and "the" with its space is one.
TEST_P(EvaluateFamily, DocumentsAreCutAtTheEndOfATokenAndScoredOnThoseBytes) {
  struct Case {
    int64_t max_tokens;
    std::string text, cut;
    int64_t tokens;  // of the cut text: a character that is cut into comes along as a whole
  };
  const std::vector<Case> cases = {
      {3, "xyz the", "xyz", 3}, {4, "xyz the end", "xyz the", 4},    {2, "xéz", "xé", 3},
      {3, "xéz", "xé", 3},      {1, "\U0001F9ED.", "\U0001F9ED", 4}, {9, "xyz", "xyz", 3}};
  for (const Case& one : cases) {
    const auto evaluate = [&](const std::string& text, int64_t max_tokens) {
      return EvaluateCorpus(*model_, *tokenizer_, Visit({text, "w5"}),
                            {.max_tokens = max_tokens, .block_tokens = 100}, context_);
    };
    ASSERT_OK_AND_ASSIGN(const BitsPerByte found, evaluate(one.text, one.max_tokens));
    ASSERT_OK_AND_ASSIGN(const BitsPerByte whole, evaluate(one.cut, 100));
    const int64_t last = std::min<int64_t>(one.max_tokens, 2);  // of "w5"
    EXPECT_EQ(found.tokens, one.tokens + last) << one.text;
    EXPECT_EQ(found.bytes, static_cast<int64_t>(one.cut.size()) + last) << one.text;
    if (last < 2) continue;
    EXPECT_EQ(found.nats, whole.nats) << one.text;
  }
}

TEST_P(EvaluateFamily, PackingDoesNotChangeTheValue) {
  ASSERT_OK_AND_ASSIGN(const BitsPerByte one_block,
                       EvaluateCorpus(*model_, *tokenizer_, Visit(SomeTexts()),
                                      {.max_tokens = 12, .block_tokens = 1'000}, context_));
  ASSERT_OK_AND_ASSIGN(const BitsPerByte single,
                       EvaluateCorpus(*model_, *tokenizer_, Visit(SomeTexts()),
                                      {.max_tokens = 12, .block_tokens = 1}, context_));
  EXPECT_NEAR(single.value(), one_block.value(), 1e-6 * single.value());
  EXPECT_EQ(single.bytes, one_block.bytes);
}

TEST_P(EvaluateFamily, RefusesNoDocumentsAndLengthsThatTheModelLacks) {
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({}),
                             {.max_tokens = 12, .block_tokens = 100}, context_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no documents")));
  const StreamedModel streamed{model_->folder(), model_->outer(), model_->device()};
  EXPECT_THAT(EvaluateCorpus(streamed, *tokenizer_, Visit({}),
                             {.max_tokens = 12, .block_tokens = 100}, context_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no documents")));
  for (const int64_t tokens : {int64_t{0}, int64_t{-1}, model_->config().max_positions}) {
    EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({"w1"}),
                               {.max_tokens = tokens, .block_tokens = 100}, context_),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
  }
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({"w1"}),
                             {.max_tokens = 12, .block_tokens = 0}, context_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("block_tokens")));
}

TEST_P(EvaluateFamily, AnErrorOfTheVisitorOrACancelEndsIt) {
  const DocumentVisitor broken = [](const auto& visit) -> absl::Status {
    Document document;
    document.text = "w1";
    RETURN_IF_ERROR(visit(document));
    return absl::DataLossError("the corpus is corrupt");
  };
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, broken, {.max_tokens = 12, .block_tokens = 100},
                             context_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("corrupt")));
  context_.Cancel();
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({"w1"}),
                             {.max_tokens = 12, .block_tokens = 100}, context_),
              StatusIs(absl::StatusCode::kCancelled));
}

INSTANTIATE_TEST_SUITE_P(Tiny, EvaluateFamily, testing::Values("llama_mha", "gemma3"),
                         [](const auto& family) { return family.param; });

// benchmarks/quality/evaluate.py on the first documents of a cell.
class EvaluatePeer : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(EvaluatePeer, GivesTheBitsPerByteOfEvaluatePy) {
  const auto& [variable, cell] = GetParam();
  const char* model_folder = std::getenv(variable);
  const char* python = std::getenv("SECATEUR_TEST_PYTHON");
  const char* data = std::getenv("SECATEUR_TEST_DATA");
  if (model_folder == nullptr) GTEST_SKIP() << variable << " names no model folder";
  if (python == nullptr) GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
  if (data == nullptr) GTEST_SKIP() << "SECATEUR_TEST_DATA names no folder of texts";
  std::ifstream lines(StrCat(data, "/eval/", cell, ".jsonl"));
  std::string first_lines;
  std::vector<std::string> texts;
  for (std::string line; texts.size() < 6 && std::getline(lines, line);) {
    first_lines += line + "\n";
    texts.push_back(nlohmann::json::parse(line)["text"]);
  }
  ASSERT_EQ(texts.size(), 6u) << cell;
  const TempDir folder;
  folder.Write(StrCat(cell, ".jsonl"), first_lines);
  const std::string output = folder.Join("output");
  ASSERT_EQ(std::system(StrCat("\"", python, "\" \"", SECATEUR_SOURCE_DIR,
                               "/benchmarks/quality/evaluate.py\" --data \"", folder.path(),
                               "\" --cells ", cell, " --docs 6 --tokens 96 \"", model_folder,
                               "\" > \"", output, "\"")
                            .c_str()),
            0);
  const auto theirs = nlohmann::json::parse(ReadFile(output));

  const auto model = LoadModel(model_folder);
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       Tokenizer::FromJson(ReadFile(StrCat(model_folder, "/tokenizer.json"))));
  RunContext context;
  ASSERT_OK_AND_ASSIGN(const BitsPerByte ours, EvaluateCorpus(*model, *tokenizer, Visit(texts),
                                                              {.max_tokens = 96}, context));
  EXPECT_EQ(ours.tokens, theirs["tokens"]);
  EXPECT_EQ(ours.bytes, theirs["bytes"]);
  EXPECT_NEAR(ours.value(), theirs["bpb"].get<double>(), 1e-3);
  std::cout << "bits per byte: " << ours.value() << ", evaluate.py: " << theirs["bpb"] << "\n";
}

INSTANTIATE_TEST_SUITE_P(Real, EvaluatePeer,
                         testing::Values(std::pair{"SECATEUR_SMOLLM2", "en-medical-qa"},
                                         std::pair{"SECATEUR_GEMMA3", "ja-general-qa"}));

}  // namespace
}  // namespace secateur
