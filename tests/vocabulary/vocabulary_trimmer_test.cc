#include "server/vocabulary/vocabulary_trimmer.h"

#include <fstream>
#include <functional>
#include <iterator>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Key;
using testing::UnorderedElementsAre;

// SmallTokenizer with 225 merges more, of every two letters from "a" to "o": something to trim.
Json LongerTokenizer() {
  Json json = SmallTokenizer();
  json["added_tokens"][0]["id"] = 1000;
  json["model"]["vocab"]["<|special|>"] = 1000;
  int id = 300;
  for (char left = 'a'; left <= 'o'; ++left) {
    for (char right = 'a'; right <= 'o'; ++right) {
      json["model"]["merges"].push_back(std::string{left, ' ', right});
      json["model"]["vocab"][std::string{left, right}] = id++;
    }
  }
  return json;
}

// What the texts need.
KeptVocabulary Kept(const VocabularyTrimmer& trimmer, const TokenCounts& counts) {
  const VocabularyOrder order = trimmer.Order(counts, {});
  return trimmer.Keep(order, RoundedRows(order.needed, trimmer.rows()));
}

// A folder with that tokenizer and files that name its tokens by id.
class TrimmedFolder : public testing::Test {
 protected:
  void SetUp() override {
    WriteTokenizer(LongerTokenizer());
    folder_.Write("config.json", R"({"bos_token_id": 1000, "pad_token_id": -1, "x": [1]})");
    folder_.Write("generation_config.json", R"({"eos_token_id": [1000, 257], "top_k": 50})");
    folder_.Write("tokenizer_config.json",
                  R"({"added_tokens_decoder": {"1000": {"content": "<|special|>"}}, "z": 1})");
    folder_.Write("added_tokens.json", R"({"<|special|>": 1000})");
  }

  void WriteTokenizer(const Json& json) {
    folder_.Write("tokenizer.json", json.dump());
    tokenizer_ = *Tokenizer::FromJson(json.dump());
  }
  auto Open(int64_t rows = 1024) {
    return VocabularyTrimmer::Open(folder_.path(), *tokenizer_, rows);
  }

  TempDir folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TrimmedFolder, HasNewIdsWhereverOldOnesStood) {
  ASSERT_OK_AND_ASSIGN(const auto trimmer, Open());
  TokenCounts counts;
  ASSERT_OK(CountTokens(*tokenizer_, "the aabb", counts));
  const KeptVocabulary kept = Kept(*trimmer, counts);
  EXPECT_EQ(kept.rows, 320);
  const int32_t special = *kept.NewId(1000);
  EXPECT_EQ(special, 319);
  ASSERT_OK_AND_ASSIGN(const TrimmedVocabulary trimmed, trimmer->Trim(kept));
  EXPECT_THAT(trimmed.files,
              UnorderedElementsAre(Key("tokenizer.json"), Key("tokenizer_config.json"),
                                   Key("added_tokens.json"), Key("generation_config.json")));
  EXPECT_EQ(trimmed.tokenizer->TokenToId("<|special|>"), special);
  EXPECT_EQ(Json::parse(trimmed.files.at("tokenizer_config.json")).dump(),
            R"({"added_tokens_decoder":{"319":{"content":"<|special|>"}},"z":1})");
  EXPECT_EQ(Json::parse(trimmed.files.at("added_tokens.json")).dump(), R"({"<|special|>":319})");
  EXPECT_EQ(Json::parse(trimmed.files.at("generation_config.json")),
            Json({{"eos_token_id", {319, *kept.NewId(257)}}, {"top_k", 50}}));
  Json config = Json::parse(R"({"bos_token_id": 1000, "pad_token_id": -1, "x": [1]})");
  ASSERT_OK(trimmer->Renumber(config, kept));
  EXPECT_EQ(config.dump(), R"({"bos_token_id":319,"pad_token_id":-1,"x":[1]})");
}

TEST_F(TrimmedFolder, KeepsWhatTheChatTemplateWrites) {
  ASSERT_OK_AND_ASSIGN(const auto without, Open());
  const int32_t id = static_cast<int32_t>(*tokenizer_->TokenToId("no"));
  EXPECT_FALSE(Kept(*without, {}).NewId(id).has_value());
  folder_.Write("chat_template.jinja", "{{ 'no' }}");
  ASSERT_OK_AND_ASSIGN(const auto with, Open());
  EXPECT_TRUE(Kept(*with, {}).NewId(id).has_value());
}

TEST_F(TrimmedFolder, KeepsBytesSpecialsAndNamedIdsWhateverTheTexts) {
  ASSERT_OK_AND_ASSIGN(const auto trimmer, Open());
  const KeptVocabulary kept = Kept(*trimmer, {});
  for (int32_t byte = 0; byte < 256; ++byte) EXPECT_EQ(kept.NewId(byte), byte);
  EXPECT_TRUE(kept.NewId(1000).has_value());
  EXPECT_TRUE(kept.NewId(257).has_value());  // generation_config.json ends there
}

TEST_F(TrimmedFolder, OfAnIdThatIsNoTokenAndNoRowIsRefusedByName) {
  folder_.Write("generation_config.json", R"({"eos_token_id": 5000})");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("\"eos_token_id\": the id 5000")));
}

TEST_F(TrimmedFolder, OfARowWithoutATokenKeepsTheRow) {
  folder_.Write("generation_config.json", R"({"pad_token_id": 1010})");
  ASSERT_OK_AND_ASSIGN(const auto trimmer, Open());
  const KeptVocabulary kept = Kept(*trimmer, {});
  ASSERT_TRUE(kept.NewId(1010).has_value());
  ASSERT_OK_AND_ASSIGN(const TrimmedVocabulary trimmed, trimmer->Trim(kept));
  EXPECT_EQ(Json::parse(trimmed.files.at("generation_config.json"))["pad_token_id"],
            *kept.NewId(1010));
}

TEST_F(TrimmedFolder, OfAKindThatIsNotCoveredIsRefused) {
  Json json = LongerTokenizer();
  json["model"]["end_of_word_suffix"] = "</w>";
  folder_.Write("tokenizer.json", json.dump());
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("end_of_word_suffix")));
}

TEST_F(TrimmedFolder, WhoseTokenizerCutsOtherwiseIsFound) {
  ASSERT_OK_AND_ASSIGN(const auto trimmer, Open());
  TokenCounts counts;
  ASSERT_OK(CountTokens(*tokenizer_, "the aabb", counts));
  const KeptVocabulary kept = Kept(*trimmer, counts);
  ASSERT_OK_AND_ASSIGN(const TrimmedVocabulary trimmed, trimmer->Trim(kept));
  EXPECT_OK(trimmer->CheckText("the aabb", kept, *trimmed.tokenizer));
  EXPECT_OK(trimmer->CheckText("no one", kept, *trimmed.tokenizer));  // fell apart

  const auto broken = [&](const std::function<void(Json&)>& change) {
    Json json = Json::parse(trimmed.files.at("tokenizer.json"));
    change(json);
    return trimmer->CheckText("the aabb", kept, **Tokenizer::FromJson(json.dump()));
  };
  EXPECT_OK(broken([](Json&) {}));
  EXPECT_THAT(broken([](Json& json) { json["model"]["merges"].erase(0); }),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tokens")));
  EXPECT_THAT(broken([](Json& json) {
                std::swap(json["model"]["vocab"]["the"], json["model"]["vocab"]["x"]);
              }),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(broken([](Json& json) { json["decoder"] = {{"type", "Fuse"}}; }),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("decodes")));
}

TEST_F(TrimmedFolder, LeavesOutWhatOlderToolsWouldRead) {
  EXPECT_TRUE(VocabularyTrimmer::IsLeftOut("tokenizer.model"));
  EXPECT_TRUE(VocabularyTrimmer::IsLeftOut("vocab.json"));
  EXPECT_TRUE(VocabularyTrimmer::IsLeftOut("merges.txt"));
  EXPECT_FALSE(VocabularyTrimmer::IsLeftOut("tokenizer.json"));
}

TEST(TinyModels, AreTrimmedToAMultipleOf64) {
  const TempDir folder;
  ASSERT_OK(WriteTinyModel(FindTinyModel("gemma3"), folder.path()));
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::FromJson(TinyTokenizerJson()));
  ASSERT_OK_AND_ASSIGN(const auto trimmer, VocabularyTrimmer::Open(folder.path(), *tokenizer, 272));
  // 256 bytes and two special tokens are more than 256: nothing is left to trim.
  EXPECT_EQ(Kept(*trimmer, {}).rows, 272);
}

}  // namespace
}  // namespace secateur
