#include "server/vocabulary/derivations.h"

#include "tests/support/status_matchers.h"
#include "tests/vocabulary/letters.h"

namespace secateur {
namespace {

using testing::ElementsAre;

// Ids: a 0, b 1, c 2, d 3; then the products from 4 on.
BpeFile Parse(const nlohmann::ordered_json& json) {
  auto file = BpeFile::Parse(json.dump());
  EXPECT_OK(file);
  return *std::move(file);
}

TEST(Derivations, GoThroughEveryTokenOnTheWay) {
  const BpeFile file = Parse(LetterTokenizer("abcd", {{"a", "b"}, {"c", "d"}, {"ab", "cd"}}));
  const Derivations derivations(file);
  EXPECT_THAT(derivations.Of(6), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(derivations.Of(4), ElementsAre(0, 1, 4));
  EXPECT_THAT(derivations.Of(2), ElementsAre(2));
}

// Two ways to make "abc"; the tokenizer takes the one whose first step comes first.
TEST(Derivations, TakeTheMergesInTheirOrder) {
  const BpeFile file =
      Parse(LetterTokenizer("abc", {{"b", "c"}, {"a", "b"}, {"ab", "c"}, {"a", "bc"}}));
  EXPECT_THAT(Derivations(file).Of(*file.ModelId("abc")),
              ElementsAre(0, 1, 2, *file.ModelId("bc"), *file.ModelId("abc")));
}

TEST(Derivations, CountRepeatedSteps) {
  const BpeFile file = Parse(LetterTokenizer("ab", {{"a", "b"}, {"ab", "ab"}}));
  EXPECT_THAT(Derivations(file).Of(3), ElementsAre(0, 1, 0, 1, 2, 2, 3));
}

// "abc" cannot be reached: "a" and "b" join first, and nothing joins "ab" and "c".
TEST(Derivations, AreTheTokenAloneWhereNoMergesMakeIt) {
  const BpeFile file = Parse(LetterTokenizer("abc", {{"a", "b"}, {"b", "c"}, {"a", "bc"}}));
  const int32_t unreachable = *file.ModelId("abc");
  EXPECT_THAT(Derivations(file).Of(unreachable), ElementsAre(unreachable));
}

TEST(Derivations, CountsOfPartsAreAtLeastThoseOfWholes) {
  const BpeFile file = Parse(LetterTokenizer("ab", {{"a", "b"}, {"ab", "ab"}}));
  // a, b, ab, abab as the tokenizer gave them.
  EXPECT_THAT(DerivationCounts(Derivations(file), {1, 0, 2, 3}), ElementsAre(9, 8, 8, 3));
}

}  // namespace
}  // namespace secateur
