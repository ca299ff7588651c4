#include "server/tokenizer/tokenizer.h"

#include <random>
#include <thread>

#include "server/base/utf8.h"
#include "tests/support/status_matchers.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

std::unique_ptr<Tokenizer> Small(const nlohmann::json& changes = nlohmann::json::object()) {
  nlohmann::json json = SmallTokenizer();
  json.merge_patch(changes);
  auto tokenizer = Tokenizer::FromJson(json.dump());
  EXPECT_OK(tokenizer);
  return *std::move(tokenizer);
}

// A text of characters of one to four bytes, with NUL, blanks and what the merges are about.
std::string RandomText(std::mt19937& random, size_t characters) {
  constexpr std::string_view kCharacters[] = {
      "t", "h", "e",           " ",   "\n",         std::string_view("\0", 1), "é", "한",
      "।", "𝄞", "👩‍🚀", "the", "<|special|>"};
  std::string text;
  for (size_t i = 0; i < characters; ++i) text += kCharacters[random() % std::size(kCharacters)];
  return text;
}

TEST(Tokenizer, MergesWhatTheVocabularyMerges) {
  ASSERT_OK_AND_ASSIGN(const auto encoding, Small()->Encode("thx the"));
  EXPECT_THAT(encoding.ids, ElementsAre(kSmallTh, 'x', ' ', kSmallThe));
  EXPECT_THAT(encoding.offsets, ElementsAre(Pair(0, 2), Pair(2, 3), Pair(3, 4), Pair(4, 7)));
}

TEST(Tokenizer, OffsetsCountBytesAndKeepCharactersWhole) {
  ASSERT_OK_AND_ASSIGN(const auto encoding, Small()->Encode("é한a"));
  EXPECT_THAT(encoding.ids, ElementsAre(0xC3, 0xA9, 0xED, 0x95, 0x9C, 'a'));
  EXPECT_THAT(encoding.offsets,
              ElementsAre(Pair(0, 2), Pair(0, 2), Pair(2, 5), Pair(2, 5), Pair(2, 5), Pair(5, 6)));
}

TEST(Tokenizer, AnyTextComesBackAndItsOffsetsCoverIt) {
  std::mt19937 random(3);
  const auto tokenizer = Small();
  for (int round = 0; round < 500; ++round) {
    const std::string text = RandomText(random, random() % 40);
    ASSERT_OK_AND_ASSIGN(const auto encoding, tokenizer->Encode(text));
    EXPECT_THAT(tokenizer->Decode(encoding.ids), IsOkAndHolds(text));
    ASSERT_EQ(encoding.ids.size(), encoding.offsets.size());
    uint32_t covered = 0;
    for (const auto& [begin, end] : encoding.offsets) {
      EXPECT_LT(begin, end);
      EXPECT_LE(begin, covered);
      EXPECT_GE(end, covered);
      EXPECT_TRUE(IsUtf8Boundary(text, begin));
      EXPECT_TRUE(IsUtf8Boundary(text, end));
      covered = end;
    }
    EXPECT_EQ(covered, text.size());
  }
}

TEST(Tokenizer, EmptyTextHasNoTokens) {
  ASSERT_OK_AND_ASSIGN(const auto encoding, Small()->Encode(""));
  EXPECT_THAT(encoding.ids, IsEmpty());
  EXPECT_THAT(encoding.offsets, IsEmpty());
  EXPECT_THAT(Small()->Decode({}), IsOkAndHolds(""));
}

TEST(Tokenizer, NulIsACharacterLikeOthers) {
  ASSERT_OK_AND_ASSIGN(const auto encoding, Small()->Encode(std::string_view("a\0b", 3)));
  EXPECT_THAT(encoding.ids, ElementsAre('a', 0, 'b'));
}

TEST(Tokenizer, SpecialTokensWrittenInTheTextAreRecognised) {
  ASSERT_OK_AND_ASSIGN(const auto encoding, Small()->Encode("a<|special|>the"));
  EXPECT_THAT(encoding.ids, ElementsAre('a', kSmallSpecial, kSmallThe));
  EXPECT_THAT(encoding.offsets, ElementsAre(Pair(0, 1), Pair(1, 12), Pair(12, 15)));
  EXPECT_THAT(Small()->Decode(encoding.ids), IsOkAndHolds("a<|special|>the"));
}

TEST(Tokenizer, NoTokenIsAddedAutomatically) {
  const nlohmann::json special = {{"SpecialToken", {{"id", "<|special|>"}, {"type_id", 0}}}};
  const nlohmann::json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const nlohmann::json definition = {
      {"id", "<|special|>"}, {"ids", {kSmallSpecial}}, {"tokens", {"<|special|>"}}};
  const auto tokenizer = Small({{"post_processor",
                                 {{"type", "TemplateProcessing"},
                                  {"single", {special, text}},
                                  {"pair", {special, text, text}},
                                  {"special_tokens", {{"<|special|>", definition}}}}}});
  EXPECT_THAT(tokenizer->Encode("the")->ids, ElementsAre(kSmallThe));
}

TEST(Tokenizer, TruncationAndPaddingOfTheFileAreIgnored) {
  const auto tokenizer = Small(
      {{"truncation",
        {{"direction", "Right"}, {"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}}},
       {"padding",
        {{"strategy", {{"Fixed", 8}}},
         {"direction", "Right"},
         {"pad_to_multiple_of", nullptr},
         {"pad_id", 0},
         {"pad_type_id", 0},
         {"pad_token", "x"}}}});
  EXPECT_THAT(tokenizer->Encode("abcd")->ids, ElementsAre('a', 'b', 'c', 'd'));
}

TEST(Tokenizer, VocabularyHoldsModelAndAddedTokens) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->vocabulary_size(), kSmallVocabulary);
  EXPECT_EQ(tokenizer->TokenToId("the"), kSmallThe);
  EXPECT_EQ(tokenizer->TokenToId("<|special|>"), kSmallSpecial);
  EXPECT_EQ(tokenizer->TokenToId("absent"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenToId(""), std::nullopt);
  EXPECT_EQ(tokenizer->TokenToId("\xff"), std::nullopt);
}

TEST(Tokenizer, ThreadsThatShareItGetTheSameIds) {
  std::mt19937 random(5);
  const auto tokenizer = Small();
  std::vector<std::string> texts;
  std::vector<std::vector<uint32_t>> expected;
  for (int i = 0; i < 200; ++i) texts.push_back(RandomText(random, 200));
  for (const std::string& text : texts) expected.push_back(Small()->Encode(text)->ids);

  std::vector<std::vector<std::vector<uint32_t>>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) {
    threads.emplace_back([&] {
      for (const std::string& text : texts) ids.push_back(tokenizer->Encode(text)->ids);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& ids : found) EXPECT_EQ(ids, expected);
}

}  // namespace
}  // namespace secateur
