#include "server/corpus/shingles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Ne;
using testing::SizeIs;

double Share(const std::vector<std::string>& held_out,
             const std::vector<std::string>& calibration) {
  TextOverlap overlap;
  for (const std::string& text : held_out) overlap.AddHeldOut(ShinglesOf(text));
  for (const std::string& text : calibration) overlap.AddCalibration(ShinglesOf(text));
  return overlap.share();
}

TEST(ShinglesOf, AreRunsOfEightWords) {
  EXPECT_THAT(ShinglesOf(""), IsEmpty());
  EXPECT_THAT(ShinglesOf(" \n\t "), IsEmpty());
  EXPECT_THAT(ShinglesOf("one two three"), SizeIs(1));
  EXPECT_THAT(ShinglesOf("a b c d e f g h"), SizeIs(1));
  const auto ten = ShinglesOf("a b c d e f g h i j");
  EXPECT_THAT(ten, SizeIs(3));
  EXPECT_THAT(ten, ElementsAre(ShinglesOf("a b c d e f g h")[0], ShinglesOf("b c d e f g h i")[0],
                               ShinglesOf("c d e f g h i j")[0]));
  EXPECT_EQ(ShinglesOf("a b c d e f g h"), ShinglesOf(" A  b\nC d\te f G h "));
  EXPECT_NE(ShinglesOf("a b c d e f g h"), ShinglesOf("b a c d e f g h"));
  EXPECT_NE(ShinglesOf("ab c d e f g h i"), ShinglesOf("a bc d e f g h i"));
  EXPECT_NE(ShinglesOf("é b"), ShinglesOf("e b"));
}

TEST(ShinglesOf, AreRunsOfSixteenCharactersWhereThereAreNoSpaces) {
  const std::string han = "裁判所は本件について次のとおり判断する";  // 19 characters
  EXPECT_THAT(ShinglesOf(han), SizeIs(4));
  // White space between them does not count.
  EXPECT_EQ(ShinglesOf("裁判所は 本件について\n次のとおり判断する"), ShinglesOf(han));
  EXPECT_THAT(ShinglesOf("สวัสดีครับผมชื่อสมชาย"), SizeIs(21 - 15));
  // Korean has spaces: eight words.
  EXPECT_THAT(ShinglesOf("법원은 이 사건에 대하여 다음과 같이 판단한다 그리고 또한"), SizeIs(2));
  // Twelve characters and two words are as much as eight words.
  EXPECT_THAT(ShinglesOf("one two 裁判所は本件について次の"), SizeIs(1));
}

TEST(TextOverlap, IsTheShareOfHeldOutShinglesThatCalibrationTextHas) {
  const std::string shared = "the court held that the contract was void from the start";  // 11
  const std::string other = "bread is baked in an oven at two hundred degrees today";     // 11
  EXPECT_EQ(Share({}, {shared}), 0);
  EXPECT_EQ(Share({shared}, {}), 0);
  EXPECT_EQ(Share({shared}, {other}), 0);
  EXPECT_EQ(Share({shared}, {"Yesterday " + shared + " of it all"}), 1);
  EXPECT_DOUBLE_EQ(Share({shared, other}, {shared}), 0.5);
  EXPECT_DOUBLE_EQ(Share({shared, shared, other}, {shared}), 0.5);  // different ones
  // Nine of its words in a row: two of four shingles.
  EXPECT_DOUBLE_EQ(Share({shared}, {"the court held that the contract was void from me"}), 0.5);
}

// A sample by hash keeps the share, whatever the order of the text.
TEST(TextOverlap, EstimatesTheShareWithinItsMemory) {
  std::mt19937_64 random(5);
  std::vector<uint64_t> held_out(200'000);
  for (uint64_t& hash : held_out) hash = random();
  TextOverlap overlap(1 << 12);
  overlap.AddHeldOut(held_out);
  overlap.AddHeldOut(held_out);  // nothing new
  overlap.AddCalibration({held_out.begin(), held_out.begin() + 60'000});
  EXPECT_NEAR(overlap.share(), 0.3, 0.03);
}

}  // namespace
}  // namespace secateur
