#include "server/vocabulary/vocabulary_order.h"

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
  VocabularyOrder Order(const std::vector<int64_t>& counts,
                        const std::vector<int32_t>& required = {},
                        const std::vector<float>& scores = {}) const {
    return OrderVocabulary(file, derivations, file.id_limit(), {counts, required, scores});
  }
  // What the texts need, without any more.
  KeptVocabulary Keep(const std::vector<int64_t>& counts,
                      const std::vector<int32_t>& required = {}) const {
    const VocabularyOrder order = Order(counts, required);
    return KeepRows(file, order, order.needed);
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

TEST(KeptVocabulary, CutsWhatIsDerivedFromItAsBefore) {
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
    const KeptVocabulary kept = base.Keep(base.Count(texts), {0, 1, 2});
    trimmed += kept.rows < base.file.id_limit() ? 1 : 0;
    applied += CheckPromise(base, kept, letters, 7);
    ASSERT_FALSE(HasFailure()) << base.text;
  }
  EXPECT_GT(trimmed, 30);
  EXPECT_GT(applied, 10000);
}

// The test above can fail: without the tokens on the way other pieces come out.
TEST(KeptVocabulary, OfFinalTokensAloneWouldNotBeEnough) {
  const Vocabulary base(LetterTokenizer("abc", {{"b", "c"}, {"a", "b"}, {"bc", "a"}}));
  const std::vector<int64_t> counts = base.Count({"bca", "ab"});
  const int32_t bc = *base.file.ModelId("bc");
  const KeptVocabulary kept = base.Keep(counts);
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

TEST(VocabularyOrder, IsClosedAtEverySize) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    const Vocabulary base(LetterTokenizer("abcd", RandomMerges(random, "abcd", 300)));
    const auto rows = static_cast<size_t>(base.file.id_limit());
    std::vector<int64_t> counts(rows);
    std::vector<float> scores(rows);
    for (int i = 0; i < 40; ++i) ++counts[random() % rows];
    for (float& value : scores) value = static_cast<float>(random() % 100);
    const VocabularyOrder order =
        base.Order(counts, {static_cast<int32_t>(random() % rows)}, scores);
    EXPECT_THAT(order.rows, testing::SizeIs(rows));
    EXPECT_LE(order.required, order.needed);
    for (int64_t size = order.required; size <= static_cast<int64_t>(rows); ++size) {
      EXPECT_TRUE(IsClosed(base, KeepRows(base.file, order, size))) << size;
    }
  }
}

TEST(VocabularyOrder, BeginsWithWhatIsRequiredAndThenWhatTheTextsAreMadeOf) {
  const Vocabulary base(LetterTokenizer("abcd", {{"a", "b"}, {"c", "d"}, {"ab", "cd"}}));
  const auto id = [&base](const char* token) { return *base.file.ModelId(token); };
  const VocabularyOrder order = base.Order(base.Count({"cd"}), {id("ab")});
  EXPECT_THAT(order.rows,
              ElementsAre(id("a"), id("b"), id("ab"), id("c"), id("d"), id("cd"), id("abcd")));
  EXPECT_EQ(order.required, 3);
  EXPECT_EQ(order.needed, 6);
}

TEST(VocabularyOrder, TakesWhatIsFrequentBeforeWhatScoresHighBeforeTheRest) {
  const Vocabulary base(AllPairs());
  std::vector<int64_t> counts(272);
  std::vector<float> scores(272);
  for (size_t id = 262; id < 272; ++id) counts[id] = static_cast<int64_t>(id);
  for (size_t id = 100; id < 110; ++id) scores[id] = static_cast<float>(id);
  const VocabularyOrder order = base.Order(counts, {}, scores);
  const auto pairs = [&order](int64_t begin, size_t count) {
    std::vector<int32_t> found;
    for (auto at = order.rows.begin() + begin; found.size() < count; ++at) {
      if (*at >= 16) found.push_back(*at);  // letters stand before the first pair that needs them
    }
    return found;
  };
  EXPECT_THAT(pairs(0, 10), ElementsAre(271, 270, 269, 268, 267, 266, 265, 264, 263, 262));
  EXPECT_THAT(pairs(order.needed, 12),
              ElementsAre(109, 108, 107, 106, 105, 104, 103, 102, 101, 100, 16, 17));
}

TEST(VocabularyOrder, TakesRowsWithoutATokenLast) {
  const Vocabulary base(AllPairs());
  const int64_t tokens = base.file.id_limit(), rows = tokens + 8;
  std::vector<float> scores(static_cast<size_t>(rows));
  std::fill(scores.end() - 8, scores.end(), 100.0F);  // whatever the model makes of them
  const VocabularyOrder order =
      OrderVocabulary(base.file, base.derivations, rows, {base.Count({"a"}), {}, scores});
  ASSERT_EQ(order.rows.size(), static_cast<size_t>(rows));
  for (int64_t at = 0; at < rows; ++at) {
    EXPECT_EQ(order.rows[static_cast<size_t>(at)] >= tokens, at >= tokens) << at;
  }
}

TEST(VocabularyOrder, TellsAtWhichSizeHowMuchOfATextFallsApart) {
  const Vocabulary base(LetterTokenizer("abcd", {{"a", "b"}, {"c", "d"}}));
  const VocabularyOrder order = base.Order({0, 0, 0, 0, 3, 1});  // ab three times, cd once
  EXPECT_THAT(order.rows, ElementsAre(0, 1, 4, 2, 3, 5));
  const std::vector<int64_t> held_out = {10, 0, 0, 0, 6, 4};
  EXPECT_EQ(RowsForShare(order, held_out, 0), 6);
  EXPECT_EQ(RowsForShare(order, held_out, 0.19), 6);
  EXPECT_EQ(RowsForShare(order, held_out, 0.2), 3);
  EXPECT_EQ(RowsForShare(order, held_out, 0.5), 1);
  EXPECT_EQ(RowsForShare(order, held_out, 1), 0);
  EXPECT_EQ(RowsForShare(order, {}, 0), 0);
  EXPECT_EQ(RowsForShare(base.Order({}, {5}), {}, 1), 3);  // never less than what is required
}

TEST(VocabularyOrder, IsCutAtMultiplesOf64) {
  EXPECT_EQ(RoundedRows(0, 1000), 0);
  EXPECT_EQ(RoundedRows(1, 1000), 64);
  EXPECT_EQ(RoundedRows(64, 1000), 64);
  EXPECT_EQ(RoundedRows(65, 1000), 128);
  EXPECT_EQ(RoundedRows(999, 1000), 1000);
}

TEST(KeptVocabulary, NumbersRowsWithoutATokenLikeOthers) {
  const Vocabulary base(LetterTokenizer("abc", {{"a", "b"}}));
  const VocabularyOrder order = OrderVocabulary(base.file, base.derivations, 300, {{1}, {299}, {}});
  EXPECT_THAT(order.rows, testing::SizeIs(300));
  const KeptVocabulary kept = KeepRows(base.file, order, 64);
  EXPECT_EQ(kept.ids.size(), 64u);
  EXPECT_EQ(kept.NewId(3), 3);
  EXPECT_EQ(kept.NewId(299), 63);
  EXPECT_EQ(kept.NewId(298), std::nullopt);
}

TEST(KeptVocabulary, HasEveryTokenThatTheEmbeddingHasNoRowFor) {
  const Vocabulary base(AllPairs());
  const VocabularyOrder order = OrderVocabulary(base.file, base.derivations, 270, {{1}, {}, {}});
  EXPECT_THAT(order.rows, testing::SizeIs(270));
  const KeptVocabulary kept = KeepRows(base.file, order, 64);
  EXPECT_EQ(kept.rows, 64);
  EXPECT_EQ(kept.ids.size(), 66u);
  EXPECT_EQ(kept.NewId(270), 64);
  EXPECT_EQ(kept.NewId(271), 65);
}

}  // namespace
}  // namespace secateur
