#include "server/corpus/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "server/base/status_macros.h"
#include "tests/support/status_matchers.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int64_t kFirst = 258;

class PackingTest : public testing::Test {
 protected:
  absl::StatusOr<std::vector<TokenBlock>> Pack(const std::vector<std::string>& texts,
                                               FramingSettings settings = {}) {
    std::vector<TokenBlock> blocks;
    Packer packer(*tokenizer_, kFirst, settings, [&](const TokenBlock& block) {
      blocks.push_back(block);
      return absl::OkStatus();
    });
    for (const std::string& text : texts) {
      Document document;
      document.text = text;
      RETURN_IF_ERROR(packer.Add(document));
    }
    RETURN_IF_ERROR(packer.Finish());
    return blocks;
  }

  std::vector<int32_t> Framed(const std::string& text, int64_t most) {
    std::vector<int32_t> ids = {static_cast<int32_t>(kFirst)};
    const Tokenizer::Encoding encoding = tokenizer_->Encode(text).value();
    ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
    if (static_cast<int64_t>(ids.size()) > most) ids.resize(static_cast<size_t>(most));
    return ids;
  }

  std::vector<std::string> RandomTexts(std::mt19937& random, int count) {
    const std::vector<std::string> pieces = {"the ", "x", "é", "한국", "😀", " ", "\n", "th"};
    std::vector<std::string> texts;
    for (int i = 0; i < count; ++i) {
      std::string text = "a";
      for (auto n = random() % 12; n > 0; --n) text += pieces[random() % pieces.size()];
      texts.push_back(std::move(text));
    }
    return texts;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = *Tokenizer::FromJson(SmallTokenizer().dump());
};

std::vector<int32_t> Sequence(const TokenBlock& block, size_t i) {
  return {block.ids.begin() + block.offsets[i], block.ids.begin() + block.offsets[i + 1]};
}

TEST_F(PackingTest, FramesADocumentOnce) {
  ASSERT_OK_AND_ASSIGN(const auto blocks, Pack({"the x", "é"}));
  ASSERT_THAT(blocks, SizeIs(1));
  EXPECT_THAT(blocks[0].ids, ElementsAre(kFirst, kSmallThe, ' ', 'x', kFirst, 0xC3, 0xA9));
  EXPECT_THAT(blocks[0].offsets, ElementsAre(0, 4, 7));
  EXPECT_THAT(blocks[0].text_bytes, ElementsAre(5, 2));
  EXPECT_EQ(blocks[0].dropped_tokens, 0);
}

TEST_F(PackingTest, DocumentsComeInOrderWholeOrCutAndFillBlocksGreedily) {
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    const std::vector<std::string> texts = RandomTexts(random, 1 + static_cast<int>(random() % 40));
    FramingSettings settings;
    settings.max_document_tokens = 1 + static_cast<int64_t>(random() % 30);
    settings.block_tokens = 1 + static_cast<int64_t>(random() % 60);
    ASSERT_OK_AND_ASSIGN(const auto blocks, Pack(texts, settings));

    size_t document = 0;
    for (size_t b = 0; b < blocks.size(); ++b) {
      const TokenBlock& block = blocks[b];
      const size_t sequences = block.offsets.size() - 1;
      ASSERT_GT(sequences, 0u);
      ASSERT_EQ(block.text_bytes.size(), sequences);
      ASSERT_EQ(block.offsets.front(), 0);
      ASSERT_EQ(block.offsets.back(), static_cast<int64_t>(block.ids.size()));
      // Full, unless one document alone is longer; and the next one would not have fit.
      const auto size = static_cast<int64_t>(block.ids.size());
      ASSERT_TRUE(size <= settings.block_tokens || sequences == 1);
      if (b + 1 < blocks.size()) {
        ASSERT_GT(size + blocks[b + 1].offsets[1], settings.block_tokens);
      }
      int64_t dropped = 0;
      for (size_t i = 0; i < sequences; ++i, ++document) {
        const std::string& text = texts[document];
        ASSERT_EQ(Sequence(block, i), Framed(text, settings.max_document_tokens));
        dropped += static_cast<int64_t>(Framed(text, 1 << 20).size()) -
                   static_cast<int64_t>(Sequence(block, i).size());
      }
      ASSERT_EQ(block.dropped_tokens, dropped);
    }
    ASSERT_EQ(document, texts.size());
  }
}

TEST_F(PackingTest, TextBytesEndWithTheLastKeptToken) {
  // Tokens: the | space | é in two | x.
  const std::string text = "the \xC3\xA9x";
  const int64_t expected[] = {0, 3, 4, 6, 6, 7, 7};
  for (int64_t most = 1; most <= 7; ++most) {
    ASSERT_OK_AND_ASSIGN(const auto blocks, Pack({text}, {most, 2048}));
    EXPECT_THAT(blocks[0].text_bytes, ElementsAre(expected[most - 1])) << most;
    EXPECT_EQ(blocks[0].dropped_tokens, std::max<int64_t>(0, 6 - most));
  }
}

TEST_F(PackingTest, IsTheSameEveryTime) {
  std::mt19937 random(2);
  const std::vector<std::string> texts = RandomTexts(random, 200);
  ASSERT_OK_AND_ASSIGN(const auto once, Pack(texts, {20, 64}));
  ASSERT_OK_AND_ASSIGN(const auto again, Pack(texts, {20, 64}));
  ASSERT_EQ(once.size(), again.size());
  for (size_t b = 0; b < once.size(); ++b) {
    EXPECT_EQ(once[b].ids, again[b].ids);
    EXPECT_EQ(once[b].offsets, again[b].offsets);
  }
}

TEST_F(PackingTest, ABlockThatIsFilledToTheLastTokenTakesNoMore) {
  ASSERT_OK_AND_ASSIGN(const auto blocks, Pack({"ab", "cd", "e"}, {512, 6}));
  ASSERT_THAT(blocks, SizeIs(2));
  EXPECT_THAT(blocks[0].ids, SizeIs(6));
  EXPECT_THAT(blocks[1].ids, SizeIs(2));
}

TEST_F(PackingTest, NoDocumentsMakeNoBlock) { EXPECT_THAT(Pack({}), IsOkAndHolds(IsEmpty())); }

TEST_F(PackingTest, ByDefaultDocumentsHave512TokensAndBlocks2048) {
  ASSERT_OK_AND_ASSIGN(const auto blocks, Pack(std::vector<std::string>(5, std::string(600, 'x'))));
  ASSERT_THAT(blocks, SizeIs(2));
  EXPECT_THAT(blocks[0].offsets, ElementsAre(0, 512, 1024, 1536, 2048));
  EXPECT_EQ(blocks[0].dropped_tokens, 4 * 89);
  EXPECT_EQ(blocks[1].dropped_tokens, 89);  // counted anew in each block
}

TEST_F(PackingTest, ErrorsOfTheSinkAndTheTokenizerComeThrough) {
  int blocks = 0;
  Packer packer(*tokenizer_, kFirst, {512, 3}, [&](const TokenBlock&) {
    return ++blocks == 1 ? absl::CancelledError("stop") : absl::OkStatus();
  });
  Document document;
  document.text = "ab";
  EXPECT_OK(packer.Add(document));
  EXPECT_THAT(packer.Add(document), StatusIs(StatusCode::kCancelled, "stop"));
  document.text = "\xFF";
  EXPECT_THAT(packer.Add(document), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(PackingTest, ImpossibleSettingsAreRefused) {
  EXPECT_THAT(Pack({"a"}, {0, 10}),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("max_document_tokens is 0")));
  EXPECT_THAT(Pack({"a"}, {10, -5}),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("block_tokens is -5")));
  for (const int64_t first : {int64_t{-1}, int64_t{1} << 31}) {
    Packer packer(*tokenizer_, first, {}, [](const TokenBlock&) { return absl::OkStatus(); });
    Document document;
    document.text = "a";
    EXPECT_THAT(packer.Add(document),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr(std::to_string(first))));
  }
}

}  // namespace
}  // namespace secateur
