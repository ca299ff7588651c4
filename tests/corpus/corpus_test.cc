#include "server/corpus/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/corpus/parse.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Document WithText(std::string text) {
  Document document;
  document.text = std::move(text);
  return document;
}

TEST(CanonicalLine, HasItsKeysInOneOrderAndLeavesOutWhatIsAbsent) {
  EXPECT_EQ(CanonicalLine(WithText("안녕")), "{\"text\":\"안녕\"}\n");
  Document full = WithText("Q: 1+1? A: two");
  full.id = "a-1";
  full.answer_byte = 11;
  full.choices = {"one", "two"};
  full.label = 1;
  full.answer = "two";
  EXPECT_EQ(CanonicalLine(full),
            "{\"text\":\"Q: 1+1? A: two\",\"id\":\"a-1\",\"answer_byte\":11,"
            "\"choices\":[\"one\",\"two\"],\"label\":1,\"answer\":\"two\"}\n");
  full.label = 0;  // present, though it is nothing
  full.answer_byte = 0;
  EXPECT_THAT(CanonicalLine(full), AllOf(HasSubstr("\"label\":0"), HasSubstr("\"answer_byte\":0")));
}

TEST(CanonicalLine, IsOneLineWhateverTheTextHolds) {
  const std::string text("a\nb\r\n\t\"\\\0\x7f\xE2\x80\xA8/", 14);
  const std::string line = CanonicalLine(WithText(text));
  EXPECT_EQ(line, "{\"text\":\"a\\nb\\r\\n\\t\\\"\\\\\\u0000\x7f\xE2\x80\xA8/\"}\n");
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(CanonicalLine, ReadsBackAsTheSameDocument) {
  Document full = WithText(std::string("\0\x01\x1f \xF0\x9F\x98\x80 \xEF\xBB\xBF end", 16));
  full.id = "é\"";
  full.answer_byte = 3;
  full.choices = {"", "\n"};
  full.label = 0;
  full.answer = "\\";
  ASSERT_OK_AND_ASSIGN(const Parsed parsed, ParseJson(CanonicalLine(full)));
  EXPECT_THAT(parsed.documents, ElementsAre(full));
}

TEST(CheckLabels, TakesSlugs) {
  EXPECT_OK(CheckLabels({}));
  EXPECT_OK(CheckLabels({{"language", "ko"}, {"domain", "legal"}, {"task", "multiple_choice"}}));
  EXPECT_OK(CheckLabels({{"0", "9.-_"}, {std::string(63, 'a'), std::string(63, 'z')}}));
}

TEST(CheckLabels, RefusesWhatIsNoSlugAndNamesIt) {
  const auto refused = [](const std::string& message) {
    return StatusIs(absl::StatusCode::kInvalidArgument,
                    AllOf(HasSubstr(message), HasSubstr("[a-z0-9._-]")));
  };
  for (const std::string bad : {"", "Ko", "k o", "_ko", ".ko", "-ko", "ko=", "k/o", "k\n", "é"}) {
    EXPECT_THAT(CheckLabels({{"language", bad}}), refused("the value is no slug")) << bad;
    EXPECT_THAT(CheckLabels({{bad, "ko"}}), refused("the key is no slug")) << bad;
  }
  EXPECT_THAT(CheckLabels({{"ok", "fine"}, {"language", "Ko"}}), refused("\"language\"=\"Ko\""));
  EXPECT_THAT(CheckLabels({{"language", std::string(64, 'a')}}), refused("value"));
  EXPECT_THAT(CheckLabels({{"language", std::string("k\0", 2)}}), refused("value"));
}

TEST(CheckLabels, RefusesMoreThan32) {
  Labels labels;
  for (int i = 0; i < 32; ++i) labels["key" + std::to_string(i)] = "v";
  EXPECT_OK(CheckLabels(labels));
  labels["one-more"] = "v";
  EXPECT_THAT(CheckLabels(labels), StatusIs(absl::StatusCode::kInvalidArgument,
                                            AllOf(HasSubstr("33"), HasSubstr("32"))));
}

}  // namespace
}  // namespace secateur
