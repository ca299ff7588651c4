#include "server/evaluate/evaluate_corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "tests/artifact/expert_models.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::HasSubstr;

DocumentVisitor VisitAll(std::vector<Document> documents) {
  return [documents](const std::function<absl::Status(const Document&)>& visit) -> absl::Status {
    for (const Document& document : documents) RETURN_IF_ERROR(visit(document));
    return absl::OkStatus();
  };
}

DocumentVisitor Visit(const std::vector<std::string>& texts) {
  std::vector<Document> documents;
  for (const std::string& text : texts) documents.emplace_back().text = text;
  return VisitAll(std::move(documents));
}

EvaluateOptions Options(int64_t max_tokens, int64_t block_tokens) {
  EvaluateOptions options;
  options.max_tokens = max_tokens;
  options.score.block_tokens = block_tokens;
  return options;
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

// The same texts, every third without choices; options of different lengths.
std::vector<Document> SomeQuestions() {
  std::vector<Document> documents;
  for (const std::string& text : SomeTexts()) {
    Document& document = documents.emplace_back();
    document.text = text;
    if (documents.size() % 3 == 0) continue;
    document.answer_byte = static_cast<int64_t>(text.size());
    document.choices = {" the", " 17 and other", "é", " an option of more tokens than 24 or so"};
    document.label = 1;
    document.text += " 17 and other";
  }
  return documents;
}

class EvaluateFamily : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteTinyModel(FindTinyModel(GetParam()), folder_.path()));
    model_ = LoadModel(folder_.path());
  }

  // Bits per byte of the resident model.
  absl::StatusOr<BitsPerByte> Evaluate(const DocumentVisitor& documents,
                                       const EvaluateOptions& options) {
    ASSIGN_OR_RETURN(const CorpusScores scores,
                     EvaluateCorpus(Resident(*model_), *tokenizer_, documents, options, context_));
    return scores.text;
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
  const EvaluateOptions options = Options(12, 30);
  const DocumentVisitor documents = VisitAll(SomeQuestions());
  ASSERT_OK_AND_ASSIGN(const CorpusScores resident, EvaluateCorpus(Resident(*expert), *tokenizer_,
                                                                   documents, options, context_));
  const LayeredModel streamed = Streamed(expert->folder(), model_->outer(), model_->device());
  ASSERT_OK_AND_ASSIGN(const CorpusScores found,
                       EvaluateCorpus(streamed, *tokenizer_, documents, options, context_));
  EXPECT_EQ(found.text.nats, resident.text.nats);
  EXPECT_EQ(found.text.tokens, resident.text.tokens);
  EXPECT_EQ(found.text.bytes, resident.text.bytes);
  EXPECT_EQ(found.text.documents, 12);
  ASSERT_EQ(found.choices.size(), 8u);
  for (size_t i = 0; i < found.choices.size(); ++i) {
    EXPECT_EQ(found.choices[i].chosen, resident.choices[i].chosen) << i;
  }
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
      return Evaluate(Visit({text, "w5"}), Options(max_tokens, 100));
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
                       Evaluate(Visit(SomeTexts()), Options(12, 1'000)));
  ASSERT_OK_AND_ASSIGN(const BitsPerByte single, Evaluate(Visit(SomeTexts()), Options(12, 1)));
  EXPECT_NEAR(single.value(), one_block.value(), 1e-6 * single.value());
  EXPECT_EQ(single.bytes, one_block.bytes);
}

// Brute force: each option by itself, its whole sequence scored as a document would be.
TEST_P(EvaluateFamily, ChoosesTheOptionThatIsLikeliestAByte) {
  const std::vector<Document> documents = SomeQuestions();
  ASSERT_OK_AND_ASSIGN(const CorpusScores found,
                       EvaluateCorpus(Resident(*model_), *tokenizer_, VisitAll(documents),
                                      Options(60, 50), context_));
  std::vector<int64_t> chosen;
  for (const ChoiceAnswer& answer : found.choices) chosen.push_back(answer.chosen);
  std::vector<int64_t> wanted;
  for (const Document& document : documents) {
    if (document.choices.empty()) continue;
    const std::string prompt = document.text.substr(0, static_cast<size_t>(*document.answer_byte));
    ASSERT_OK_AND_ASSIGN(const BitsPerByte asked, Evaluate(Visit({prompt}), Options(110, 1)));
    std::vector<double> scores;
    for (const std::string& choice : document.choices) {
      ASSERT_OK_AND_ASSIGN(const BitsPerByte whole,
                           Evaluate(Visit({prompt + choice}), Options(110, 1)));
      ASSERT_LT(whole.tokens, 110);
      scores.push_back((asked.nats - whole.nats) / static_cast<double>(choice.size()));
    }
    wanted.push_back(std::max_element(scores.begin(), scores.end()) - scores.begin());
  }
  EXPECT_EQ(chosen, wanted);
}

TEST_P(EvaluateFamily, ReportsDocumentsAmongAllThereAre) {
  std::vector<Progress> reports;
  RunContext context([&](const Progress& progress) { reports.push_back(progress); });
  EvaluateOptions options = Options(12, 30);
  options.documents_before = 5;
  options.documents_total = 40;
  ASSERT_OK(
      EvaluateCorpus(Resident(*model_), *tokenizer_, VisitAll(SomeQuestions()), options, context));
  ASSERT_EQ(reports.size(), 12u);
  for (size_t i = 0; i < reports.size(); ++i) {
    EXPECT_EQ(reports[i].phase, "evaluate");
    EXPECT_EQ(reports[i].done, static_cast<int64_t>(6 + i));
    EXPECT_EQ(reports[i].total, 40);
  }
}

TEST_P(EvaluateFamily, RefusesNoDocumentsAndLengthsThatTheModelLacks) {
  EXPECT_THAT(Evaluate(Visit({}), Options(12, 100)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no documents")));
  for (const int64_t tokens : {int64_t{0}, int64_t{-1}, model_->config().max_positions}) {
    EXPECT_THAT(Evaluate(Visit({"w1"}), Options(tokens, 100)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
  }
  EXPECT_THAT(Evaluate(Visit({"w1"}), Options(12, 0)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("block_tokens")));
}

TEST_P(EvaluateFamily, AnErrorOfTheVisitorOrACancelEndsIt) {
  const DocumentVisitor broken = [](const auto& visit) -> absl::Status {
    Document document;
    document.text = "w1";
    RETURN_IF_ERROR(visit(document));
    return absl::DataLossError("the corpus is corrupt");
  };
  EXPECT_THAT(Evaluate(broken, Options(12, 100)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("corrupt")));
  context_.Cancel();
  EXPECT_THAT(Evaluate(Visit({"w1"}), Options(12, 100)), StatusIs(absl::StatusCode::kCancelled));
}

INSTANTIATE_TEST_SUITE_P(Tiny, EvaluateFamily, testing::Values("llama_mha", "gemma3"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace secateur
