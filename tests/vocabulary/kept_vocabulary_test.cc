#include "server/vocabulary/kept_vocabulary.h"

#include <algorithm>
#include <memory>
#include <random>
#include <set>

#include "server/tokenizer/tokenizer.h"
#include "server/vocabulary/token_counts.h"
#include "tests/support/status_matchers.h"
#include "tests/vocabulary/letters.h"

namespace secateur {
namespace {

using testing::ElementsAre;

// A tokenizer of random merges and what is needed to trim it.
struct Vocabulary {
  explicit Vocabulary(const nlohmann::ordered_json& json)
      : text(json.dump()),
        file(*BpeFile::Parse(text)),
        derivations(file),
        tokenizer(*Tokenizer::FromJson(text)) {}

  std::vector<int64_t> Count(const std::vector<std::string>& texts) const {
    TokenCounts counts;
    for (const std::string& t : texts) EXPECT_OK(CountTokens(*tokenizer, t, counts));
    return counts.by_id;
  }
  KeptVocabulary Select(const std::vector<int64_t>& counts, const std::vector<int32_t>& required,
                        const VocabularyOptions& options = {}) const {
    return SelectVocabulary(file, derivations, file.id_limit(), {counts, required}, options);
  }

  std::string text;
  BpeFile file;
  Derivations derivations;
  std::unique_ptr<Tokenizer> tokenizer;
};

// Merges of letters and earlier products, some of them making what another pair makes, too.
LetterMerges RandomMerges(std::mt19937& random, const std::string& letters, size_t count) {
  std::vector<std::string> tokens;
  for (const char letter : letters) tokens.emplace_back(1, letter);
  std::set<std::pair<std::string, std::string>> seen;
  LetterMerges merges;
  while (merges.size() < count) {
    const std::string left = tokens[random() % tokens.size()];
    const std::string right = tokens[random() % tokens.size()];
    if (left.size() + right.size() > 6 || !seen.emplace(left, right).second) continue;
    merges.emplace_back(left, right);
    tokens.push_back(left + right);
  }
  return merges;
}

std::vector<std::string> AllStrings(const std::string& letters, size_t length) {
  std::vector<std::string> all = {""};
  for (size_t begin = 0, i = 0; i < length; ++i) {
    const size_t end = all.size();
    for (; begin < end; ++begin) {
      for (const char letter : letters) all.push_back(all[begin] + letter);
    }
  }
  return {all.begin() + 1, all.end()};
}

// The base's ids of what the trimmed tokenizer gives.
std::vector<uint32_t> OldIds(const std::vector<uint32_t>& ids, const KeptVocabulary& kept) {
  std::vector<uint32_t> old;
  for (const uint32_t id : ids) old.push_back(static_cast<uint32_t>(kept.ids[id]));
  return old;
}

bool DerivationIsKept(const Vocabulary& base, const std::vector<uint32_t>& ids,
                      const KeptVocabulary& kept) {
  return std::all_of(ids.begin(), ids.end(), [&](uint32_t id) {
    const std::vector<int32_t> steps = base.derivations.Of(static_cast<int32_t>(id));
    return std::all_of(steps.begin(), steps.end(),
                       [&kept](int32_t step) { return kept.NewId(step).has_value(); });
  });
}

// The rule's promise on every string of up to `length` letters; how often it applied.
int CheckPromise(const Vocabulary& base, const KeptVocabulary& kept, const std::string& letters,
                 size_t length) {
  const auto trimmed = Tokenizer::FromJson(base.file.Trimmed(kept.ids));
  EXPECT_OK(trimmed);
  int applied = 0;
  for (const std::string& text : AllStrings(letters, length)) {
    const std::vector<uint32_t> before = base.tokenizer->Encode(text)->ids;
    const std::vector<uint32_t> after = OldIds((*trimmed)->Encode(text)->ids, kept);
    std::string spelled;
    for (const uint32_t id : after) spelled += base.file.token(static_cast<int32_t>(id));
    EXPECT_EQ(spelled, text);
    if (!DerivationIsKept(base, before, kept)) continue;
    EXPECT_EQ(after, before) << text;
    ++applied;
  }
  return applied;
}

TEST(KeptVocabulary, WhatWasDerivedFromKeptTokensComesOutTheSame) {
  std::mt19937 random(11);
  const std::string letters = "abc";
  int applied = 0, trimmed = 0;
  for (int round = 0; round < 60; ++round) {
    nlohmann::ordered_json json = LetterTokenizer(letters, RandomMerges(random, letters, 90));
    json["model"]["ignore_merges"] = round % 3 == 0;
    const Vocabulary base(json);
    std::vector<std::string> texts;
    for (int i = 0; i < 12; ++i) {
      std::string text;
      while (text.size() < 7) text += letters[random() % letters.size()];
      texts.push_back(text);
    }
    const KeptVocabulary kept = base.Select(base.Count(texts), {0, 1, 2}, {.min_occurrences = 1});
    trimmed += kept.rows < base.file.id_limit() ? 1 : 0;
    applied += CheckPromise(base, kept, letters, 7);
    ASSERT_FALSE(HasFailure()) << base.text;
  }
  EXPECT_GT(trimmed, 30);
  EXPECT_GT(applied, 10000);
}

// The test above can fail: without the tokens on the way other pieces come out.
TEST(KeptVocabulary, FinalTokensAloneAreNotEnough) {
  const Vocabulary base(LetterTokenizer("abc", {{"b", "c"}, {"a", "b"}, {"bc", "a"}}));
  const std::vector<int64_t> counts = base.Count({"bca", "ab"});
  const int32_t bc = *base.file.ModelId("bc");
  const KeptVocabulary kept = base.Select(counts, {});
  EXPECT_TRUE(kept.NewId(bc).has_value());
  KeptVocabulary without = kept;
  std::erase(without.ids, bc);
  const auto trimmed = Tokenizer::FromJson(base.file.Trimmed(without.ids));
  ASSERT_OK(trimmed);
  EXPECT_NE(OldIds((*trimmed)->Encode("bca")->ids, without), base.tokenizer->Encode("bca")->ids);
}

// Letters, then every pair of them: id 16 + 16 * first + second.
nlohmann::ordered_json AllPairs() {
  const std::string letters = "abcdefghijklmnop";
  LetterMerges merges;
  for (const char left : letters) {
    for (const char right : letters)
      merges.emplace_back(std::string(1, left), std::string(1, right));
  }
  return LetterTokenizer(letters, merges);
}

bool IsClosed(const Vocabulary& base, const KeptVocabulary& kept) {
  return std::all_of(kept.ids.begin(), kept.ids.end(), [&](int32_t id) {
    return DerivationIsKept(base, {static_cast<uint32_t>(id)}, kept);
  });
}

TEST(KeptVocabulary, HasAMultipleOf64Rows) {
  const Vocabulary base(AllPairs());
  ASSERT_EQ(base.file.id_limit(), 272);
  EXPECT_EQ(base.Select({1}, {}).rows, 64);
  EXPECT_EQ(base.Select({1}, {}, {.min_rows = 64}).rows, 64);
  EXPECT_EQ(base.Select({1}, {}, {.min_rows = 65}).rows, 128);
  EXPECT_EQ(base.Select({1}, {}, {.min_rows = 100'000}).rows, base.file.id_limit());
  const KeptVocabulary kept = base.Select({1}, {});
  EXPECT_TRUE(std::is_sorted(kept.ids.begin(), kept.ids.end()));
  EXPECT_EQ(static_cast<int64_t>(kept.ids.size()), kept.rows);
}

TEST(KeptVocabulary, IsAllOfOneThatIsSmallerThanThat) {
  const Vocabulary base(LetterTokenizer("abc", {{"a", "b"}}));
  EXPECT_THAT(base.Select({1}, {}).ids, ElementsAre(0, 1, 2, 3));
}

TEST(KeptVocabulary, IsClosedHoweverItIsFilled) {
  std::mt19937 random(5);
  for (int round = 0; round < 30; ++round) {
    const Vocabulary base(LetterTokenizer("abcd", RandomMerges(random, "abcd", 400)));
    std::vector<int64_t> counts(static_cast<size_t>(base.file.id_limit()));
    for (int i = 0; i < 40; ++i) ++counts[random() % counts.size()];
    const KeptVocabulary kept = base.Select(
        counts, {static_cast<int32_t>(random() % counts.size())},
        {.min_occurrences = 1 + round % 3, .min_rows = static_cast<int64_t>(random() % 300)});
    EXPECT_TRUE(kept.rows % kVocabularyMultiple == 0 || kept.rows == base.file.id_limit());
    EXPECT_TRUE(IsClosed(base, kept));
  }
}

TEST(KeptVocabulary, LeavesRareTokensOutFromTheFloorOn) {
  const Vocabulary base(AllPairs());
  std::vector<int64_t> counts(272, 2);
  for (size_t id = 200; id < counts.size(); ++id) counts[id] = 1;  // pairs that end the list
  EXPECT_EQ(base.Select(counts, {}).rows, 272);
  const KeptVocabulary kept = base.Select(counts, {}, {.min_occurrences = 2});
  EXPECT_EQ(kept.rows, 256);
  for (int32_t id = 0; id < 200; ++id) EXPECT_TRUE(kept.NewId(id).has_value()) << id;
}

TEST(KeptVocabulary, IsFilledMostFrequentFirst) {
  const Vocabulary base(AllPairs());
  std::vector<int64_t> counts(272);
  for (size_t id = 16; id < counts.size(); ++id) counts[id] = static_cast<int64_t>(id);
  const KeptVocabulary kept =
      base.Select(counts, {}, {.min_occurrences = 100'000, .min_rows = 128});
  ASSERT_EQ(kept.rows, 128);
  // The letters have the most, as parts of all; then the pairs with the highest ids.
  for (int32_t id = 0; id < 16; ++id) EXPECT_TRUE(kept.NewId(id).has_value()) << id;
  for (int32_t id = 272 - 112; id < 272; ++id) EXPECT_TRUE(kept.NewId(id).has_value()) << id;
}

TEST(KeptVocabulary, IsFilledWithWhatTheTextsAreSpelledWithBeforeTheRest) {
  const Vocabulary base(AllPairs());
  std::vector<int64_t> counts(272);
  for (size_t id = 8; id < 16; ++id) counts[id] = 1;  // "i" to "p"
  const KeptVocabulary kept = base.Select(counts, {});
  ASSERT_EQ(kept.rows, 64);
  for (const int32_t id : kept.ids) {
    EXPECT_EQ(base.file.token(id).find_first_of("abcdefgh"), std::string::npos) << id;
  }
}

TEST(KeptVocabulary, HoldsRowsWithoutATokenLast) {
  const Vocabulary base(LetterTokenizer("abc", {{"a", "b"}}));
  const KeptVocabulary kept =
      SelectVocabulary(base.file, base.derivations, 300, {{1}, {299}}, VocabularyOptions{});
  EXPECT_EQ(kept.rows, 64);
  EXPECT_EQ(kept.NewId(3), 3);
  EXPECT_EQ(kept.NewId(299), 63);
  EXPECT_EQ(kept.NewId(298), std::nullopt);
}

TEST(KeptVocabulary, CountsNoRowForATokenThatTheEmbeddingHasNone) {
  const Vocabulary base(AllPairs());
  const KeptVocabulary kept =
      SelectVocabulary(base.file, base.derivations, 100, {{1}, {271}}, VocabularyOptions{});
  EXPECT_EQ(kept.rows, 64);
  EXPECT_EQ(kept.ids.size(), 65u);
  EXPECT_EQ(kept.NewId(271), 64);
  EXPECT_TRUE(IsClosed(base, kept));
}

}  // namespace
}  // namespace secateur
