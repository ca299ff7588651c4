#include "server/vocabulary/token_counts.h"

#include "tests/support/status_matchers.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace secateur {
namespace {

TEST(TokenCounts, AddUpOverTexts) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::FromJson(SmallTokenizer().dump()));
  TokenCounts first, second;
  ASSERT_OK(CountTokens(*tokenizer, "the the", first));
  ASSERT_OK(CountTokens(*tokenizer, "that", second));
  AddCounts(second, first);
  EXPECT_EQ(first.by_id[kSmallThe], 2);
  EXPECT_EQ(first.by_id[kSmallTh], 1);
  EXPECT_EQ(first.by_id[' '], 1);
  EXPECT_EQ(first.by_id['a'], 1);
  EXPECT_EQ(first.tokens, 6);
  EXPECT_EQ(first.bytes, 11);
  EXPECT_EQ(first.documents, 2);
}

TEST(Fertility, GrowsWithTheTokensThatTheSameTextTakes) {
  nlohmann::json smaller = SmallTokenizer();
  smaller["model"]["merges"] = nlohmann::json::array();
  ASSERT_OK_AND_ASSIGN(const auto base, Tokenizer::FromJson(SmallTokenizer().dump()));
  ASSERT_OK_AND_ASSIGN(const auto trimmed, Tokenizer::FromJson(smaller.dump()));
  Fertility fertility;
  EXPECT_EQ(fertility.growth(), 0);
  ASSERT_OK(AddFertility(*base, *trimmed, "the", fertility));
  ASSERT_OK(AddFertility(*base, *trimmed, "x", fertility));
  EXPECT_EQ(fertility.bytes, 4);
  EXPECT_EQ(fertility.base_tokens, 2);
  EXPECT_EQ(fertility.trimmed_tokens, 4);
  EXPECT_DOUBLE_EQ(fertility.growth(), 1.0);
}

}  // namespace
}  // namespace secateur
