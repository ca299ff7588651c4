#include "server/mask/mask.h"

#include <gtest/gtest.h>

namespace secateur {
namespace {

TEST(Mask, EqualMasksHaveEqualDigests) {
  const Mask mask{{{0, 2, 5}, {1, 3, 4}}};
  const Mask same = mask;
  EXPECT_EQ(mask, same);
  EXPECT_EQ(mask.digest(), same.digest());
}

TEST(Mask, TheDigestDependsOnEveryChannelOfEveryLayer) {
  const Mask mask{{{0, 2, 5}, {1, 3, 4}}};
  for (size_t layer = 0; layer < 2; ++layer) {
    for (size_t i = 0; i < 3; ++i) {
      Mask other = mask;
      other.kept[layer][i] += 1 << 20;
      EXPECT_NE(other.digest(), mask.digest()) << layer << " " << i;
    }
  }
}

TEST(Mask, TheDigestDependsOnWhereALayerEnds) {
  const std::vector<Mask> masks = {Mask{{{1, 2, 3}}},     Mask{{{1, 2}, {3}}},
                                   Mask{{{1}, {2, 3}}},   Mask{{{1, 2, 3}, {}}},
                                   Mask{{{}, {1, 2, 3}}}, Mask{}};
  for (size_t a = 0; a < masks.size(); ++a) {
    for (size_t b = a + 1; b < masks.size(); ++b) {
      EXPECT_NE(masks[a].digest(), masks[b].digest()) << a << " " << b;
    }
  }
}

TEST(Mask, TheDigestStaysTheSameForEver) {
  // Layer count 1, 8 bytes of channels, channels 1 and 258: experts record it.
  const std::string bytes("\1\0\0\0\0\0\0\0\x8\0\0\0\0\0\0\0\1\0\0\0\2\1\0\0", 24);
  EXPECT_EQ((Mask{{{1, 258}}}.digest()), Sha256Of(bytes));
}

TEST(Mask, TheDigestDependsOnEveryRowUnlessAllStay) {
  const Mask whole{{{0, 2, 5}, {1, 3, 4}}};
  Mask trimmed = whole;
  trimmed.vocabulary = {0, 1, 7};
  EXPECT_NE(trimmed, whole);
  EXPECT_NE(trimmed.digest(), whole.digest());
  for (size_t i = 0; i < 3; ++i) {
    Mask other = trimmed;
    other.vocabulary[i] += 1 << 20;
    EXPECT_NE(other.digest(), trimmed.digest()) << i;
  }
  const Mask as_a_layer{{{0, 2, 5}, {1, 3, 4}, {0, 1, 7}}};
  EXPECT_NE(as_a_layer.digest(), trimmed.digest());
}

}  // namespace
}  // namespace secateur
