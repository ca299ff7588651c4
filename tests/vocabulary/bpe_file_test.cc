#include "server/vocabulary/bpe_file.h"

#include <numeric>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"
#include "tests/tokenizer/small_tokenizer.h"
#include "tests/vocabulary/letters.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const LetterMerges kMerges = {{"a", "b"}, {"c", "d"}, {"ab", "cd"}};

Json Letters() { return LetterTokenizer("abcd", kMerges); }

std::vector<int32_t> Everything(const BpeFile& file) {
  std::vector<int32_t> ids(static_cast<size_t>(file.id_limit()));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

Json AddedToken(int id, const std::string& content) {
  return {{"id", id}, {"content", content}, {"special", true}};
}

TEST(BpeFile, TellsTokensAndMergesById) {
  ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(Letters().dump()));
  EXPECT_EQ(file.id_limit(), 7);
  EXPECT_EQ(file.token(6), "abcd");
  EXPECT_EQ(file.ModelId("cd"), 5);
  EXPECT_EQ(file.ModelId("x"), std::nullopt);
  ASSERT_EQ(file.merges().size(), 3u);
  EXPECT_EQ(file.merges()[2].left, 4);
  EXPECT_EQ(file.merges()[2].right, 5);
  EXPECT_EQ(file.merges()[2].product, 6);
}

TEST(BpeFile, KeepingEverythingChangesNothing) {
  for (const std::string& text : {Letters().dump(), SmallTokenizer().dump(), TinyTokenizerJson()}) {
    ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(text));
    const Json trimmed = Json::parse(file.Trimmed(Everything(file)));
    // Equal as a value, the tokens by id.
    EXPECT_EQ(nlohmann::json::parse(trimmed.dump()), nlohmann::json::parse(text));
  }
}

TEST(BpeFile, MergesStayWhenBothPartsAndTheProductDo) {
  ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(Letters().dump()));
  const auto merges = [&file](const std::vector<int32_t>& kept) {
    return Json::parse(file.Trimmed(kept))["model"]["merges"].dump();
  };
  EXPECT_EQ(merges({0, 1, 2, 3, 4, 5, 6}), R"([["a","b"],["c","d"],["ab","cd"]])");
  EXPECT_EQ(merges({0, 1, 2, 3, 5, 6}), R"([["c","d"]])");
  EXPECT_EQ(merges({0, 1, 2, 3, 4, 5}), R"([["a","b"],["c","d"]])");
  EXPECT_EQ(merges({0, 2, 3, 4, 5, 6}), R"([["c","d"],["ab","cd"]])");
}

TEST(BpeFile, NewIdsAreDenseInTheOldOrder) {
  ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(Letters().dump()));
  const Json trimmed = Json::parse(file.Trimmed({1, 3, 4, 6}));
  EXPECT_EQ(trimmed["model"]["vocab"].dump(), R"({"b":0,"d":1,"ab":2,"abcd":3})");
}

TEST(BpeFile, MergesAreWrittenInTheFormTheyHad) {
  Json json = Letters();
  json["model"]["merges"] = {"a b", "c d", "ab cd"};
  ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(json.dump()));
  EXPECT_EQ(Json::parse(file.Trimmed({0, 1, 4}))["model"]["merges"], Json::array({"a b"}));
}

TEST(BpeFile, UnknownKeysStayInTheirOrder) {
  Json json = Letters();
  json["model"]["zeta"] = {{"b", 1.5}, {"a", {nullptr, true, "x", -3}}};
  json["alpha"] = "kept";
  ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(json.dump()));
  EXPECT_EQ(file.Trimmed(Everything(file)), json.dump());
}

TEST(BpeFile, IdsOutsideTheModelFollow) {
  Json json = Letters();
  json["added_tokens"] = {AddedToken(7, "<s>"), AddedToken(8, "</s>")};
  json["padding"] = {{"pad_id", 8}, {"pad_token", "</s>"}};
  const Json special = {{"id", "<s>"}, {"ids", {7}}, {"tokens", {"<s>"}}};
  const Json sequence = {{"type", "TemplateProcessing"}, {"special_tokens", {{"<s>", special}}}};
  const Json roberta = {{"type", "RobertaProcessing"}, {"sep", {"</s>", 8}}, {"cls", {"<s>", 7}}};
  json["post_processor"] = {{"type", "Sequence"},
                            {"processors", {sequence, {{"type", "ByteLevel"}}, roberta}}};
  ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(json.dump()));
  EXPECT_THAT(file.added(), ElementsAre(7, 8));
  EXPECT_THAT(file.NamedIds(), UnorderedElementsAre(7, 8, 8, 7, 8, 7));

  const Json trimmed = Json::parse(file.Trimmed({0, 7, 8}));
  EXPECT_EQ(trimmed["model"]["vocab"].dump(), R"({"a":0})");  // added tokens stay outside of it
  EXPECT_EQ(trimmed["added_tokens"][0]["id"], 1);
  EXPECT_EQ(trimmed["added_tokens"][1]["id"], 2);
  EXPECT_EQ(trimmed["padding"]["pad_id"], 2);
  const Json& processors = trimmed["post_processor"]["processors"];
  EXPECT_EQ(processors[0]["special_tokens"]["<s>"]["ids"], Json::array({1}));
  EXPECT_EQ(processors[2]["sep"], Json({"</s>", 2}));
  EXPECT_EQ(processors[2]["cls"], Json({"<s>", 1}));
}

TEST(BpeFile, KnowsWhatStandsInForUnknownCharacters) {
  Json json = Letters();
  json["model"]["byte_fallback"] = true;
  json["model"]["unk_token"] = "<unk>";
  json["model"]["vocab"]["<unk>"] = 7;
  json["model"]["vocab"]["<0x0A>"] = 8;
  json["model"]["vocab"]["<0xFF>"] = 9;
  ASSERT_OK_AND_ASSIGN(const BpeFile file, BpeFile::Parse(json.dump()));
  EXPECT_THAT(file.byte_tokens(), ElementsAre(8, 9));
  EXPECT_EQ(file.unknown_token(), 7);
  json["model"]["byte_fallback"] = false;
  ASSERT_OK_AND_ASSIGN(const BpeFile without, BpeFile::Parse(json.dump()));
  EXPECT_THAT(without.byte_tokens(), IsEmpty());
}

struct Refusal {
  const char* patch;
  const char* named;
};

TEST(BpeFile, WhatTheRuleDoesNotCoverIsUnimplementedByName) {
  const Refusal refusals[] = {
      {R"({"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2]], "merges": null}})",
       "model.type is \"Unigram\""},
      {R"({"model": {"type": "WordPiece", "merges": null}})", "model.type is \"WordPiece\""},
      {R"({"model": {"type": null}})", "model.type"},
      {R"({"model": {"dropout": 0.1}})", "model.dropout is 0.1"},
      {R"({"model": {"continuing_subword_prefix": "##"}})", "model.continuing_subword_prefix"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})", "model.end_of_word_suffix is \"</w>\""},
      {R"({"model": {"unk_token": "ab"}})", "\"ab\" and \"cd\""},
      {R"({"model": {"byte_fallback": true, "vocab": {"<0x41>": 7, "<0x41>a": 8},
                     "merges": [["<0x41>", "a"]]}})",
       "\"<0x41>\" and \"a\""},
      {R"({"post_processor": {"type": "Mystery"}})", "post_processor.type is \"Mystery\""},
  };
  for (const Refusal& refusal : refusals) {
    Json json = Letters();
    json.merge_patch(Json::parse(refusal.patch));
    EXPECT_THAT(BpeFile::Parse(json.dump()),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(refusal.named)))
        << refusal.patch;
  }
}

TEST(BpeFile, WhatIsNoTokenizerIsInvalidWithThePlace) {
  const Refusal refusals[] = {
      {R"({"model": {"vocab": {"b": 0}}})", "\"a\" and \"b\" both have the id 0"},
      {R"({"model": {"vocab": {"b": -1}}})", "\"b\" is the number -1"},
      {R"({"model": {"vocab": {"b": "1"}}})", "model.vocab: \"b\""},
      {R"({"model": {"vocab": {"b": 4294967295}}})", "4294967295"},
      {R"({"model": {"vocab": [["a", -1.5]]}})", "model.vocab"},
      {R"({"model": {"vocab": null}})", "no tokens"},
      {R"({"model": {"merges": [["a", "x"]]}})", "\"a\" and \"x\""},
      {R"({"model": {"merges": [["a", "b", "c"]]}})", "no pair"},
      {R"({"model": {"merges": [7]}})", "model.merges"},
      {R"({"model": null})", "\"model\""},
      {R"({"added_tokens": [{"content": "<s>"}]})", "added_tokens"},
      {R"({"added_tokens": [{"content": "a", "id": 3}]})", "\"a\" has the id 3"},
      {R"({"added_tokens": [{"content": "<s>", "id": 3}]})", "\"<s>\" has the id 3"},
      {R"({"post_processor": {"type": "BertProcessing", "sep": ["x"]}})", "post_processor.sep"},
  };
  for (const Refusal& refusal : refusals) {
    Json json = Letters();
    json.merge_patch(Json::parse(refusal.patch));
    EXPECT_THAT(BpeFile::Parse(json.dump()),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(refusal.named)))
        << refusal.patch;
  }
  for (const char* text : {"", "[]", "3", "{", R"({"model": 1})"}) {
    EXPECT_THAT(BpeFile::Parse(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

}  // namespace
}  // namespace secateur
