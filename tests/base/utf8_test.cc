#include "server/base/utf8.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace secateur {
namespace {

std::string Encode(uint32_t point) {
  const auto tail = [](uint32_t bits) { return static_cast<char>(0x80 | (bits & 0x3F)); };
  if (point < 0x80) return {static_cast<char>(point)};
  if (point < 0x800) return {static_cast<char>(0xC0 | (point >> 6)), tail(point)};
  if (point < 0x10000) {
    return {static_cast<char>(0xE0 | (point >> 12)), tail(point >> 6), tail(point)};
  }
  return {static_cast<char>(0xF0 | (point >> 18)), tail(point >> 12), tail(point >> 6),
          tail(point)};
}

TEST(Utf8, AcceptsEveryCharacterAndRefusesEverySurrogate) {
  for (uint32_t point = 0; point <= 0x10FFFF; ++point) {
    const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    ASSERT_EQ(FirstInvalidUtf8(Encode(point)).has_value(), surrogate) << std::hex << point;
  }
}

TEST(Utf8, AcceptsExactlyTheTwoByteFormsOfTheStandard) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string text = {static_cast<char>(first), static_cast<char>(second)};
      const bool two_ascii = first < 0x80 && second < 0x80;
      const bool one_character = first >= 0xC2 && first <= 0xDF && second >= 0x80 && second <= 0xBF;
      ASSERT_EQ(!FirstInvalidUtf8(text), two_ascii || one_character) << first << " " << second;
    }
  }
}

struct IllFormed {
  const char* what;
  std::string bytes;
};

TEST(Utf8, NamesTheFirstByteOfEachIllFormedSequence) {
  const IllFormed cases[] = {
      {"a continuation byte alone", "\x80"},
      {"the last continuation byte", "\xBF"},
      {"an overlong NUL", std::string("\xC0\x80", 2)},
      {"an overlong slash", "\xC0\xAF"},
      {"an overlong two-byte lead", "\xC1\xBF"},
      {"an overlong three-byte form", "\xE0\x9F\xBF"},
      {"an overlong four-byte form", "\xF0\x8F\xBF\xBF"},
      {"the first surrogate", "\xED\xA0\x80"},
      {"the last surrogate", "\xED\xBF\xBF"},
      {"a surrogate pair", "\xED\xA0\xBD\xED\xB8\x80"},
      {"past U+10FFFF", "\xF4\x90\x80\x80"},
      {"a lead of a five-byte form", "\xF8\x88\x80\x80\x80"},
      {"a lead of a six-byte form", "\xFC\x84\x80\x80\x80\x80"},
      {"the byte FE", "\xFE"},
      {"the byte FF", "\xFF"},
      {"two bytes cut short", "\xC3"},
      {"three bytes cut after one", "\xE2"},
      {"three bytes cut after two", "\xE2\x82"},
      {"four bytes cut after one", "\xF0"},
      {"four bytes cut after two", "\xF0\x9F"},
      {"four bytes cut after three", "\xF0\x9F\x98"},
      {"a character broken by ASCII",
       "\xE2\x82"
       "A"},
      {"a character broken by a lead", "\xF0\x9F\xC3\xA9"},
  };
  for (const IllFormed& c : cases) {
    EXPECT_EQ(FirstInvalidUtf8(c.bytes), 0u) << c.what;
    EXPECT_EQ(FirstInvalidUtf8("h\xC3\xA9" + c.bytes + "x"), 3u) << c.what;
  }
}

TEST(Utf8, FindsNothingWrongInNoText) { EXPECT_EQ(FirstInvalidUtf8(""), std::nullopt); }

TEST(Utf8, KnowsWhereCharactersStart) {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";  // 1, 2, 3 and 4 bytes
  const std::string starts =
      "1101001000"
      "1";
  for (size_t i = 0; i <= text.size(); ++i)
    EXPECT_EQ(IsUtf8Boundary(text, i), starts[i] == '1') << i;
  EXPECT_FALSE(IsUtf8Boundary(text, text.size() + 1));
  EXPECT_TRUE(IsUtf8Boundary("", 0));
}

TEST(Quoted, ShowsAnythingAsShortWellFormedText) {
  EXPECT_EQ(Quoted("corpora/c1"), "\"corpora/c1\"");
  EXPECT_EQ(Quoted("a\"b\n\x01"), "\"a\\\"b\\n\\001\"");
  EXPECT_EQ(Quoted("\xC3\xA9"), "\"\xC3\xA9\"");
  EXPECT_EQ(Quoted("\xC3"), "\"\\xc3\"");
  EXPECT_EQ(Quoted(std::string(200, 'x')), "\"" + std::string(200, 'x') + "\"");
  EXPECT_EQ(Quoted(std::string(201, 'x')), "\"" + std::string(200, 'x') + "\"...");
}

TEST(Quoted, NeverCutsThroughACharacter) {
  for (size_t lead = 195; lead <= 200; ++lead) {
    const std::string shown = Quoted(std::string(lead, 'x') + "\xF0\x9F\x98\x80 and more");
    EXPECT_EQ(FirstInvalidUtf8(shown), std::nullopt) << lead;
    EXPECT_EQ(shown.find("\\x"), std::string::npos) << lead;
  }
}

}  // namespace
}  // namespace secateur
