#include "server/evaluate/evaluate_corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "server/base/status_macros.h"
#include "tests/artifact/expert_folder.h"
#include "tests/artifact/random_base.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::HasSubstr;

std::string ReadFile(const std::string& path) {
  std::stringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

std::unique_ptr<Transformer> LoadModel(const std::string& path) {
  RunContext context;
  auto folder = ModelFolder::Open(path);
  EXPECT_OK(folder);
  auto model = Transformer::Load(*std::move(folder), Device{}, context);
  EXPECT_OK(model);
  return *std::move(model);
}

// Words of the vocabulary w0 to w29; "é" is a word of two bytes.
std::unique_ptr<Tokenizer> WordTokenizer() {
  nlohmann::json vocabulary = {{"[UNK]", 0}, {"é", 31}};
  for (int i = 0; i < 30; ++i) vocabulary[StrCat("w", i)] = i + 1;
  const nlohmann::json json = {
      {"version", "1.0"},         {"truncation", nullptr},
      {"padding", nullptr},       {"added_tokens", nlohmann::json::array()},
      {"normalizer", nullptr},    {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
      {"post_processor", nullptr}, {"decoder", nullptr},
      {"model", {{"type", "WordLevel"}, {"vocab", vocabulary}, {"unk_token", "[UNK]"}}}};
  auto tokenizer = Tokenizer::FromJson(json.dump());
  EXPECT_OK(tokenizer);
  return *std::move(tokenizer);
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
    for (unsigned words = random() % 20; words > 0; --words) text += StrCat(" w", random() % 30);
    texts.push_back(text);
  }
  return texts;
}

class EvaluateFamily : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    WriteTinyModel(GetParam(), folder_.path());
    model_ = LoadModel(folder_.path());
  }

  const TempDir folder_;
  std::unique_ptr<Transformer> model_;
  const std::unique_ptr<Tokenizer> tokenizer_ = WordTokenizer();
  RunContext context_;
};

TEST_P(EvaluateFamily, AFolderReadLayerByLayerGivesWhatTheResidentModelGives) {
  const Mask mask = RandomMask(model_->config(), 13);
  const TempDir expert_folder;
  ASSERT_OK(WriteExpertFolder(model_->folder(), mask, expert_folder.path()));
  const auto expert = LoadModel(expert_folder.path());
  const EvaluateOptions options{.max_tokens = 12, .block_tokens = 30};
  ASSERT_OK_AND_ASSIGN(const BitsPerByte resident, EvaluateCorpus(*expert, *tokenizer_, Visit(SomeTexts()),
                                                         options, context_));
  const StreamedModel streamed{expert->folder(), model_->outer(), model_->device()};
  ASSERT_OK_AND_ASSIGN(const BitsPerByte found, EvaluateCorpus(streamed, *tokenizer_, Visit(SomeTexts()),
                                                         options, context_));
  EXPECT_EQ(found.nats, resident.nats);
  EXPECT_EQ(found.tokens, resident.tokens);
  EXPECT_EQ(found.bytes, resident.bytes);
  EXPECT_EQ(found.documents, 12);
}

TEST_P(EvaluateFamily, DocumentsAreCutAtTheEndOfATokenAndScoredOnThoseBytes) {
  const EvaluateOptions options{.max_tokens = 3, .block_tokens = 100};
  ASSERT_OK_AND_ASSIGN(const BitsPerByte cut,
                       EvaluateCorpus(*model_, *tokenizer_, Visit({"w1 w22 é  w3 w4", "w5"}), options, context_));
  EXPECT_EQ(cut.bytes, static_cast<int64_t>(std::string("w1 w22 é" "w5").size()));
  EXPECT_EQ(cut.tokens, 4);
  ASSERT_OK_AND_ASSIGN(const BitsPerByte short_ones,
                       EvaluateCorpus(*model_, *tokenizer_, Visit({"w1 w22 é", "w5"}), options, context_));
  EXPECT_EQ(cut.nats, short_ones.nats);
}

TEST_P(EvaluateFamily, PackingDoesNotChangeTheValue) {
  ASSERT_OK_AND_ASSIGN(const BitsPerByte one_block,
                       EvaluateCorpus(*model_, *tokenizer_, Visit(SomeTexts()), {12, 1'000}, context_));
  ASSERT_OK_AND_ASSIGN(const BitsPerByte single,
                       EvaluateCorpus(*model_, *tokenizer_, Visit(SomeTexts()), {12, 1}, context_));
  EXPECT_NEAR(single.value(), one_block.value(), 1e-6 * single.value());
  EXPECT_EQ(single.bytes, one_block.bytes);
}

TEST_P(EvaluateFamily, RefusesNoDocumentsAndLengthsThatTheModelLacks) {
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({}), {12, 100}, context_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no documents")));
  const StreamedModel streamed{model_->folder(), model_->outer(), model_->device()};
  EXPECT_THAT(EvaluateCorpus(streamed, *tokenizer_, Visit({}), {12, 100}, context_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no documents")));
  for (const int64_t tokens : {int64_t{0}, int64_t{-1}, model_->config().max_positions}) {
    EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({"w1"}), {tokens, 100}, context_),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
  }
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({"w1"}), {12, 0}, context_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("block_tokens")));
}

TEST_P(EvaluateFamily, AnErrorOfTheVisitorOrACancelEndsIt) {
  const DocumentVisitor broken = [](const auto& visit) -> absl::Status {
    Document document;
    document.text = "w1";
    RETURN_IF_ERROR(visit(document));
    return absl::DataLossError("the corpus is corrupt");
  };
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, broken, {12, 100}, context_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("corrupt")));
  context_.Cancel();
  EXPECT_THAT(EvaluateCorpus(*model_, *tokenizer_, Visit({"w1"}), {12, 100}, context_),
              StatusIs(absl::StatusCode::kCancelled));
}

INSTANTIATE_TEST_SUITE_P(Tiny, EvaluateFamily, testing::ValuesIn(TinyModelNames()));

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
  ASSERT_EQ(std::system(StrCat("\"", python, "\" \"", SECATEUR_QUALITY, "/evaluate.py\" --data \"",
                               folder.path(), "\" --cells ", cell,
                               " --docs 6 --tokens 96 \"", model_folder, "\" > \"", output, "\"")
                            .c_str()),
            0);
  const auto theirs = nlohmann::json::parse(ReadFile(output));

  const auto model = LoadModel(model_folder);
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       Tokenizer::FromJson(ReadFile(StrCat(model_folder, "/tokenizer.json"))));
  RunContext context;
  ASSERT_OK_AND_ASSIGN(const BitsPerByte ours,
                       EvaluateCorpus(*model, *tokenizer, Visit(texts), {.max_tokens = 96}, context));
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
