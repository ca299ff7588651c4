#include "server/evaluate/multiple_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kFirst = kTinyBos;

class FrameChoicesTest : public testing::Test {
 protected:
  std::vector<int32_t> Ids(const std::string& text) const {
    std::vector<int32_t> ids = {static_cast<int32_t>(kFirst)};
    const auto encoding = tokenizer_->Encode(text);
    EXPECT_OK(encoding);
    ids.insert(ids.end(), encoding->ids.begin(), encoding->ids.end());
    return ids;
  }
  std::vector<ChoiceOption> Frame(const Document& document, int64_t max_tokens = 1000) const {
    const auto options = FrameChoices(*tokenizer_, kFirst, document, max_tokens);
    EXPECT_OK(options);
    return *options;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromJson(TinyTokenizerJson()).value();
};

Document Question(const std::string& prompt, const std::string& gold,
                  std::vector<std::string> choices, int64_t label) {
  Document document;
  document.text = prompt + gold;
  document.answer_byte = static_cast<int64_t>(prompt.size());
  document.choices = std::move(choices);
  document.label = label;
  return document;
}

TEST_F(FrameChoicesTest, WritesEveryOptionBehindTheQuestionAsTheRightOneIs) {
  const auto lettered = Frame(Question("Q? ", "B. sea", {"lake", "sea", "Fluß"}, 1));
  ASSERT_EQ(lettered.size(), 3u);
  EXPECT_EQ(lettered[0].ids, Ids("Q? A. lake"));
  EXPECT_EQ(lettered[2].ids, Ids("Q? C. Fluß"));
  EXPECT_EQ(lettered[2].answer_bytes, 8);
  for (const ChoiceOption& option : lettered) EXPECT_EQ(option.start, 4);
  const auto plain = Frame(Question("Q? ", "sea", {"lake", "sea"}, 1));
  EXPECT_EQ(plain[0].ids, Ids("Q? lake"));
  EXPECT_EQ(plain[1].ids, Ids("Q? sea"));
  // Another letter than the label's is part of the text.
  EXPECT_EQ(Frame(Question("Q? ", "A. sea", {"lake", "sea"}, 1))[0].ids, Ids("Q? lake"));
  // Behind Z comes what Unicode has there, in two bytes from U+0080 on.
  std::vector<std::string> many(70, "x");
  const auto unicode = Frame(Question("Q? ", "A. x", many, 0));
  EXPECT_EQ(unicode[26].ids, Ids("Q? [. x"));
  EXPECT_EQ(unicode[69].ids, Ids("Q? \xC2\x86. x"));
}

// " the" is one token: the question's last token changes when the option begins in the middle of
// it.
TEST_F(FrameChoicesTest, AnAnswerBeginsWhereItsTokensFirstDiffer) {
  const auto options = Frame(Question("Q t", "he", {"he", "x"}, 0));
  EXPECT_EQ(options[0].ids, Ids("Q the"));
  EXPECT_EQ(options[0].start, 2);  // BOS, Q
  EXPECT_EQ(options[1].start, 3);  // BOS, Q, " t"
}

TEST_F(FrameChoicesTest, KeepsTheEndOfWhatIsTooLong) {
  const Document document = Question("abcdefgh", "xyz", {"xyz", "x"}, 0);
  const auto options = Frame(document, 6);
  EXPECT_THAT(options[0].ids, ElementsAre('f', 'g', 'h', 'x', 'y', 'z'));
  EXPECT_EQ(options[0].start, 3);
  EXPECT_EQ(options[1].ids.size(), 6u);
  EXPECT_EQ(options[1].start, 5);
  // An answer longer than that is scored behind its first token that is left.
  EXPECT_EQ(Frame(document, 2)[0].start, 1);
  EXPECT_EQ(Frame(document, 2)[0].ids.size(), 2u);
  EXPECT_EQ(Frame(document, 2)[0].answer_bytes, 3);
}

TEST_F(FrameChoicesTest, IsEmptyWhereThereIsNothingToChoose) {
  Document document = Question("Q? ", "sea", {"lake", "sea"}, 1);
  document.label.reset();
  EXPECT_THAT(Frame(document), IsEmpty());
  document.label = 1;
  document.answer_byte.reset();
  EXPECT_THAT(Frame(document), IsEmpty());
  EXPECT_THAT(Frame(Question("Q? ", "sea", {}, 0)), IsEmpty());
  EXPECT_THAT(Frame(Question("Q? ", "sea", {"", "sea"}, 1)), IsEmpty());
  EXPECT_EQ(Frame(Question("Q? ", "B. sea", {"", "sea"}, 1)).size(), 2u);  // "A. " is text
}

std::vector<ChoiceAnswer> Answers(const std::string& right) {
  std::vector<ChoiceAnswer> answers;
  for (const char c : right) answers.push_back({.chosen = c == '1' ? 2 : 0, .label = 2});
  return answers;
}

TEST(CompareAccuracy, CountsWhatIsRight) {
  ASSERT_OK_AND_ASSIGN(const AccuracyComparison found,
                       CompareAccuracy(Answers("11100000"), Answers("01000001"), RunContext()));
  EXPECT_EQ(found.count, 8);
  EXPECT_DOUBLE_EQ(found.base, 3.0 / 8);
  EXPECT_DOUBLE_EQ(found.expert, 2.0 / 8);
  EXPECT_LT(found.difference_low, -1.0 / 8);
  EXPECT_GT(found.difference_high, -1.0 / 8);
  ASSERT_OK_AND_ASSIGN(const AccuracyComparison none, CompareAccuracy({}, {}, RunContext()));
  EXPECT_EQ(none.count, 0);
  EXPECT_EQ(none.base, 0);
  EXPECT_THAT(CompareAccuracy(Answers("1"), Answers("11"), RunContext()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  RunContext cancelled;
  cancelled.Cancel();
  EXPECT_THAT(CompareAccuracy(Answers("10"), Answers("11"), cancelled),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST(CompareAccuracy, IsSureOfWhatNeverDiffers) {
  for (const auto& [base, expert, difference] :
       {std::tuple("0101", "0101", 0.0), std::tuple("0000", "1111", 1.0),
        std::tuple("1", "0", -1.0)}) {
    ASSERT_OK_AND_ASSIGN(const AccuracyComparison found,
                         CompareAccuracy(Answers(base), Answers(expert), RunContext()));
    EXPECT_EQ(found.difference_low, difference);
    EXPECT_EQ(found.difference_high, difference);
  }
}

// Many documents: the interval is the normal one, 1.96 standard errors to each side.
TEST(CompareAccuracy, GivesTheIntervalThatTheCentralLimitTheoremGives) {
  std::string base, expert;
  for (int i = 0; i < 3000; ++i) {
    base += i % 10 < 5 ? '1' : '0';
    expert += i % 10 < 3 || i % 10 == 9 ? '1' : '0';  // a fifth worse, a tenth better
  }
  ASSERT_OK_AND_ASSIGN(const AccuracyComparison found,
                       CompareAccuracy(Answers(base), Answers(expert), RunContext()));
  const double error = std::sqrt((0.3 - 0.1 * 0.1) / 3000);
  EXPECT_NEAR(found.difference_low, -0.1 - 1.96 * error, 0.15 * error);
  EXPECT_NEAR(found.difference_high, -0.1 + 1.96 * error, 0.15 * error);
  ASSERT_OK_AND_ASSIGN(const AccuracyComparison again,
                       CompareAccuracy(Answers(base), Answers(expert), RunContext()));
  EXPECT_EQ(again.difference_low, found.difference_low);
  EXPECT_EQ(again.difference_high, found.difference_high);
}

}  // namespace
}  // namespace secateur
