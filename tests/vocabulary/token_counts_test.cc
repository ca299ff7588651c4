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

}  // namespace
}  // namespace secateur
