// Real vocabularies, trimmed to some text: Transformers loads the result and agrees with us token
// by token; what was derived from kept tokens comes out in the same pieces; every text comes back.

#include <filesystem>
#include <random>

#include "server/base/mapped_file.h"
#include "server/base/utf8.h"
#include "server/vocabulary/vocabulary_trimmer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/tokenizer/transformers_peer.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

// The parameter is the environment variable that names the model folder. Kept: what the first half
// of the documents needs.
class RealVocabulary : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    model_ = Environment(GetParam());
    if (model_.empty()) GTEST_SKIP() << GetParam() << " names no model folder";
    const auto json = MappedFile::Open(model_ + "/tokenizer.json");
    ASSERT_OK(json);
    ASSERT_OK_AND_ASSIGN(base_, Tokenizer::FromJson((*json)->bytes()));
    ASSERT_OK_AND_ASSIGN(trimmer_,
                         VocabularyTrimmer::Open(model_, *base_, base_->vocabulary_size()));
    texts_ = TextsOf(kMultilingual);
    needed_ = {texts_.begin(), texts_.begin() + static_cast<std::ptrdiff_t>(texts_.size() / 2)};
    TokenCounts counts;
    for (const std::string& text : needed_) ASSERT_OK(CountTokens(*base_, text, counts));
    const VocabularyOrder order = trimmer_->Order(counts, {});
    kept_ = trimmer_->Keep(order, RoundedRows(order.needed, trimmer_->rows()));
    ASSERT_OK_AND_ASSIGN(trimmed_, trimmer_->Trim(kept_));
  }

  // True when nothing the derivation of `ids` goes through was dropped.
  bool IsKept(const std::vector<uint32_t>& ids) const {
    for (const uint32_t id : ids) {
      for (const int32_t step : trimmer_->derivations().Of(static_cast<int32_t>(id))) {
        if (!kept_.NewId(step)) return false;
      }
    }
    return true;
  }

  // The ids of the trimmed tokenizer, as the base numbers them.
  std::vector<uint32_t> EncodeTrimmed(const std::string& text) const {
    const auto encoding = trimmed_.tokenizer->Encode(text);
    EXPECT_OK(encoding);
    std::vector<uint32_t> ids;
    for (const uint32_t id : encoding->ids) ids.push_back(static_cast<uint32_t>(kept_.ids[id]));
    return ids;
  }

  std::string model_;
  std::unique_ptr<Tokenizer> base_;
  std::unique_ptr<const VocabularyTrimmer> trimmer_;
  std::vector<std::string> texts_, needed_;
  KeptVocabulary kept_;
  TrimmedVocabulary trimmed_;
};

TEST_P(RealVocabulary, IsMuchSmaller) {
  EXPECT_EQ(kept_.rows % kVocabularyMultiple, 0);
  EXPECT_LT(kept_.rows, trimmer_->rows() / 10);
  EXPECT_EQ(static_cast<int64_t>(trimmed_.tokenizer->vocabulary_size()), kept_.rows);
  RecordProperty("rows", static_cast<int>(kept_.rows));
}

TEST_P(RealVocabulary, CutsTheTextsItIsForAsBefore) {
  for (const std::string& text : needed_) {
    EXPECT_EQ(EncodeTrimmed(text), base_->Encode(text)->ids) << text;
    EXPECT_OK(trimmer_->CheckText(text, kept_, *trimmed_.tokenizer));
  }
}

// Slices of the texts, put together at random: other words and other neighbours.
TEST_P(RealVocabulary, CutsWhatIsDerivedFromKeptTokensAsBefore) {
  std::mt19937 random(17);
  int promised = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (int part = 0; part < 3; ++part) {
      const std::string& source = needed_[random() % needed_.size()];
      size_t begin = random() % source.size();
      size_t end = std::min(source.size(), begin + 1 + random() % 20);
      while (!IsUtf8Boundary(source, begin)) --begin;
      while (!IsUtf8Boundary(source, end)) ++end;
      text += source.substr(begin, end - begin);
    }
    const std::vector<uint32_t> ids = base_->Encode(text)->ids;
    const bool kept = IsKept(ids);
    promised += kept ? 1 : 0;
    if (kept) {
      EXPECT_EQ(EncodeTrimmed(text), ids) << text;
    }
    EXPECT_OK(trimmer_->CheckText(text, kept_, *trimmed_.tokenizer));
  }
  EXPECT_GT(promised, 100);
  RecordProperty("promised", promised);
}

// A text made of every kind of character, none of it in what the vocabulary is for.
TEST_P(RealVocabulary, SpellsWhateverTheBaseSpells) {
  std::mt19937 random(19);
  const auto append = [](std::string& text, uint32_t c) {
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else if (c < 0x800) {
      text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
      text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
               static_cast<char>(0x80 | (c & 0x3F))};
    } else {
      text += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
               static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
    }
  };
  constexpr uint32_t kLimits[] = {0x80, 0x800, 0x3000, 0xD800, 0x20000};
  int came_back = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    while (text.size() < 40) append(text, random() % kLimits[random() % std::size(kLimits)] | 1U);
    if (FirstInvalidUtf8(text)) continue;  // a surrogate
    const auto encoding = trimmed_.tokenizer->Encode(text);
    ASSERT_OK(encoding);
    const auto found = trimmed_.tokenizer->Decode(encoding->ids);
    const auto wanted = base_->Decode(base_->Encode(text)->ids);
    EXPECT_EQ(*found, *wanted) << Quoted(text);
    came_back += *found == text ? 1 : 0;
  }
  EXPECT_GT(came_back, 1000);
}

TEST_P(RealVocabulary, IsLoadedByTransformersThatAgreesTokenByToken) {
  if (Environment("SECATEUR_TEST_PYTHON").empty()) {
    GTEST_SKIP() << "SECATEUR_TEST_PYTHON names no Python with transformers";
  }
  const TempDir folder;
  fs::copy_file(model_ + "/special_tokens_map.json", folder.Join("special_tokens_map.json"));
  for (const auto& [name, bytes] : trimmed_.files) folder.Write(name, bytes);
  CompareWithTransformers(folder.path(), *trimmed_.tokenizer, {kMultilingual});
}

TEST_P(RealVocabulary, HoldsForTheTestData) {
  const std::string data = Environment("SECATEUR_TEST_DATA");
  if (data.empty()) GTEST_SKIP() << "SECATEUR_TEST_DATA names no folder of corpora";
  TokenCounts counts;
  const std::vector<std::string> profile = TextsOf(data + "/profile/de-general-qa.jsonl");
  for (const std::string& text : profile) ASSERT_OK(CountTokens(*base_, text, counts));
  const VocabularyOrder order = trimmer_->Order(counts, {});
  const KeptVocabulary kept = trimmer_->Keep(order, order.needed);
  ASSERT_OK_AND_ASSIGN(const TrimmedVocabulary trimmed, trimmer_->Trim(kept));
  TokenCounts trimmed_counts;
  for (const std::string& text : profile) {
    ASSERT_OK(CountTokens(*trimmed.tokenizer, text, trimmed_counts));
  }
  EXPECT_EQ(trimmed_counts.tokens, counts.tokens);
  for (const std::string& text : TextsOf(data + "/eval/de-general-qa.jsonl")) {
    EXPECT_OK(trimmer_->CheckText(text, kept, *trimmed.tokenizer));
  }
}

INSTANTIATE_TEST_SUITE_P(SmolLM2, RealVocabulary, testing::Values("SECATEUR_SMOLLM2"));
INSTANTIATE_TEST_SUITE_P(Gemma3, RealVocabulary, testing::Values("SECATEUR_GEMMA3"));

}  // namespace
}  // namespace secateur
