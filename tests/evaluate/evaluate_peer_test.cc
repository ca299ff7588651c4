// Our measures against benchmarks/quality/evaluate.py, on the first documents of real cells.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_replace.h"
#include "server/base/status_macros.h"
#include "server/corpus/json_document.h"
#include "server/evaluate/evaluate_corpus.h"
#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

constexpr int64_t kTokens = 96;

std::string ReadFile(const std::string& path) {
  std::stringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

struct Cell {
  const char* model;  // environment variable that names its folder
  const char* name;
  size_t documents;
};

std::string NameOf(const testing::TestParamInfo<Cell>& cell) {
  return absl::StrReplaceAll(cell.param.name, {{"-", "_"}});
}

class EvaluatePeer : public testing::TestWithParam<Cell> {
 protected:
  // Reads the documents and loads the model, or skips.
  void Open() {
    const Cell& cell = GetParam();
    const char* python = std::getenv("SECATEUR_TEST_PYTHON");
    const char* data = std::getenv("SECATEUR_TEST_DATA");
    const char* model_folder = std::getenv(cell.model);
    if (model_folder == nullptr) GTEST_SKIP() << cell.model << " names no model folder";
    if (python == nullptr) GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
    if (data == nullptr) GTEST_SKIP() << "SECATEUR_TEST_DATA names no folder of texts";
    python_ = python;
    model_folder_ = model_folder;
    std::ifstream lines(StrCat(data, "/eval/", cell.name, ".jsonl"));
    std::string text;
    for (std::string line; documents_.size() < cell.documents && std::getline(lines, line);) {
      text += line + "\n";
      ASSERT_OK_AND_ASSIGN(JsonDocument parsed, ParseJsonDocument(line));
      documents_.push_back(std::move(parsed.document));
    }
    ASSERT_EQ(documents_.size(), cell.documents) << cell.name;
    folder_.Write(StrCat(cell.name, ".jsonl"), text);
    model_ = LoadModel(model_folder_);
    ASSERT_OK_AND_ASSIGN(tokenizer_,
                         Tokenizer::FromJson(ReadFile(StrCat(model_folder_, "/tokenizer.json"))));
  }

  // What a Python program prints.
  nlohmann::json Python(const std::string& arguments) const {
    const std::string output = folder_.Join("output");
    EXPECT_EQ(std::system(StrCat("\"", python_, "\" ", arguments, " > \"", output, "\"").c_str()),
              0);
    return nlohmann::json::parse(ReadFile(output), nullptr, /*allow_exceptions=*/false);
  }

  CorpusScores Evaluate() {
    const DocumentVisitor visit = [this](const auto& to) -> absl::Status {
      for (const Document& document : documents_) RETURN_IF_ERROR(to(document));
      return absl::OkStatus();
    };
    RunContext context;
    EvaluateOptions options;
    options.max_tokens = kTokens;
    const auto scores = EvaluateCorpus(Resident(*model_), *tokenizer_, visit, options, context);
    EXPECT_OK(scores);
    return scores.ok() ? *scores : CorpusScores();
  }

  void ExpectSameBitsPerByte(const BitsPerByte& ours, const nlohmann::json& theirs) const {
    EXPECT_EQ(ours.tokens, theirs["tokens"]);
    EXPECT_EQ(ours.bytes, theirs["bytes"]);
    EXPECT_NEAR(ours.value(), theirs["bpb"].get<double>(), 1e-3);
    std::cout << "bits per byte: " << ours.value() << ", evaluate.py: " << theirs["bpb"] << "\n";
  }

  const std::string evaluate_py_ = SECATEUR_SOURCE_DIR "/benchmarks/quality/evaluate.py";
  const TempDir folder_;
  std::string python_, model_folder_;
  std::vector<Document> documents_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

class TextPeer : public EvaluatePeer {
 protected:
  void ExpectTheBitsPerByteOfEvaluatePy() {
    const nlohmann::json theirs = Python(StrCat(
        "\"", evaluate_py_, "\" --data \"", folder_.path(), "\" --cells ", GetParam().name,
        " --docs ", GetParam().documents, " --tokens ", kTokens, " \"", model_folder_, "\""));
    ASSERT_TRUE(theirs.is_object());
    ExpectSameBitsPerByte(Evaluate().text, theirs);
  }
};

TEST_P(TextPeer, GivesTheBitsPerByteOfEvaluatePy) {
  Open();
  if (IsSkipped() || HasFatalFailure()) return;
  ExpectTheBitsPerByteOfEvaluatePy();
}

TEST_P(TextPeer, GivesThoseOfAnExpert) {
  Open();
  if (IsSkipped() || HasFatalFailure()) return;
  const Mask mask = RandomMask(model_->config(), model_->config().intermediate_size * 7 / 8);
  model_folder_ = folder_.Join("expert");
  std::filesystem::create_directory(model_folder_);
  ASSERT_OK(WriteExpertFolder(model_->folder(), mask, model_folder_));
  model_ = LoadModel(model_folder_);
  ExpectTheBitsPerByteOfEvaluatePy();
}

INSTANTIATE_TEST_SUITE_P(Real, TextPeer,
                         testing::Values(Cell{"SECATEUR_SMOLLM2", "en-medical-qa", 6},
                                         Cell{"SECATEUR_GEMMA3", "ja-general-qa", 6}),
                         NameOf);

using ChoicePeer = EvaluatePeer;

TEST_P(ChoicePeer, ChoosesWhatEvaluatePyChoosesItemByItem) {
  Open();
  if (IsSkipped() || HasFatalFailure()) return;
  const nlohmann::json theirs = Python(StrCat(
      "\"", SECATEUR_SOURCE_DIR, "/tests/evaluate/evaluate_peer.py\" \"", evaluate_py_, "\" \"",
      model_folder_, "\" \"", folder_.Join(StrCat(GetParam().name, ".jsonl")), "\" ", kTokens));
  ASSERT_TRUE(theirs.is_object());
  const CorpusScores ours = Evaluate();
  ExpectSameBitsPerByte(ours.text, theirs);
  ASSERT_EQ(ours.choices.size(), theirs["items"].size());
  int right = 0;
  for (size_t i = 0; i < documents_.size(); ++i) {
    const nlohmann::json& item = theirs["items"][i];
    EXPECT_EQ(ours.choices[i].right(), item["right"].get<bool>()) << documents_[i].id;
    right += static_cast<int>(ours.choices[i].right());
    ASSERT_OK_AND_ASSIGN(
        const std::vector<ChoiceOption> options,
        FrameChoices(*tokenizer_, model_->config().first_token_id, documents_[i], 2 * kTokens));
    ASSERT_EQ(options.size(), item["options"].size());
    std::vector<double> scores;
    for (size_t k = 0; k < options.size(); ++k) {
      EXPECT_EQ(options[k].ids, item["options"][k]["ids"].get<std::vector<int32_t>>());
      EXPECT_EQ(options[k].start, item["options"][k]["start"].get<int64_t>());
      scores.push_back(-item["options"][k]["nats"].get<double>() /
                       static_cast<double>(options[k].answer_bytes));
    }
    EXPECT_EQ(ours.choices[i].chosen,
              std::max_element(scores.begin(), scores.end()) - scores.begin())
        << documents_[i].id;
  }
  std::cout << right << " of " << documents_.size() << " right\n";
}

// With letters, with worked examples before the question, without letters; short and cut.
INSTANTIATE_TEST_SUITE_P(Real, ChoicePeer,
                         testing::Values(Cell{"SECATEUR_SMOLLM2", "sw-general-multiple_choice", 8},
                                         Cell{"SECATEUR_SMOLLM2", "en-ecommerce-sentiment", 8},
                                         Cell{"SECATEUR_GEMMA3", "ja-medical-multiple_choice", 6}),
                         NameOf);

}  // namespace
}  // namespace secateur
