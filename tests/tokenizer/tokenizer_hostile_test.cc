// Bad files and bad texts: an error each, never a crash.

#include "server/tokenizer/tokenizer.h"
#include "tests/support/status_matchers.h"
#include "tests/tokenizer/small_tokenizer.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

std::unique_ptr<Tokenizer> Small() { return *Tokenizer::FromJson(SmallTokenizer().dump()); }

TEST(HostileTokenizer, WhatIsNoTokenizerIsRefusedWithTheReason) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "EOF while parsing"},
      {"{", "EOF while parsing"},
      {"nope", "expected ident"},
      {"\"\xff\"", ""},
      {"[]", ""},
      {"{}", ""},
      {"null", ""},
      {std::string(1000000, '['), ""},
      {R"({"version":"1.0","model":{"type":"NoSuchModel"}})", ""},
      {R"({"version":"9.0","model":{"type":"BPE","vocab":{},"merges":[]}})", "9.0"},
  };
  for (const auto& [json, reason] : cases) {
    const auto made = Tokenizer::FromJson(json);
    ASSERT_THAT(made, StatusIs(StatusCode::kInvalidArgument, HasSubstr("tokenizer.json")))
        << json.substr(0, 80);
    EXPECT_THAT(std::string(made.status().message()), HasSubstr(reason)) << json.substr(0, 80);
  }
}

TEST(HostileTokenizer, AMergeOfTokensThatAreNotThereIsRefusedByName) {
  nlohmann::json json = SmallTokenizer();
  json["model"]["merges"].push_back("qq zz");
  EXPECT_THAT(Tokenizer::FromJson(json.dump()),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("qq")));
}

TEST(HostileTokenizer, EveryTruncationIsRefused) {
  const std::string json = SmallTokenizer().dump();
  for (size_t size = 0; size < json.size(); ++size) {
    EXPECT_THAT(Tokenizer::FromJson(json.substr(0, size)), StatusIs(StatusCode::kInvalidArgument))
        << size << " bytes";
  }
}

TEST(HostileTokenizer, EveryChangedByteIsRefusedOrWorks) {
  const std::string json = SmallTokenizer().dump();
  int refused = 0;
  for (size_t at = 0; at < json.size(); ++at) {
    for (const char byte : {'"', '{', ']', '0', '-', 'x', '\xff'}) {
      std::string damaged = json;
      damaged[at] = byte;
      const auto tokenizer = Tokenizer::FromJson(damaged);
      if (!tokenizer.ok()) {
        EXPECT_THAT(tokenizer, StatusIs(StatusCode::kInvalidArgument));
        ++refused;
        continue;
      }
      // What still loads may lack bytes or tokens; it must say so rather than break.
      const auto encoding = (*tokenizer)->Encode("the <|special|> é\n");
      if (!encoding.ok()) {
        EXPECT_THAT(encoding, StatusIs(StatusCode::kFailedPrecondition)) << damaged.substr(at, 40);
      } else {
        EXPECT_OK((*tokenizer)->Decode(encoding->ids)) << damaged.substr(at, 40);
      }
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(HostileTokenizer, TextThatIsNotUtf8IsRefusedWithThePlace) {
  const auto tokenizer = Small();
  const std::pair<std::string, std::string> cases[] = {
      {"abc\xff", "byte 3"},
      {"\xC3", "byte 0"},
      {"a\xC0\x80", "byte 1"},
      {"\xED\xA0\x80", "byte 0"},
      {"ok\xF4\x90\x80\x80", "byte 2"},
      {"\xE2\x82", "byte 0"},
  };
  for (const auto& [text, place] : cases) {
    EXPECT_THAT(tokenizer->Encode(text), StatusIs(StatusCode::kInvalidArgument, HasSubstr(place)));
  }
}

TEST(HostileTokenizer, AVocabularyWithoutAWordForItSaysSo) {
  const nlohmann::json json = {
      {"version", "1.0"},
      {"added_tokens", nlohmann::json::array()},
      {"pre_tokenizer", {{"type", "Whitespace"}}},
      {"model", {{"type", "WordLevel"}, {"vocab", {{"known", 0}}}, {"unk_token", "<unk>"}}}};
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::FromJson(json.dump()));
  EXPECT_OK(tokenizer->Encode("known known"));
  EXPECT_THAT(tokenizer->Encode("unknown"),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("WordLevel")));
}

TEST(HostileTokenizer, APanicOfTheLibraryIsAnErrorAndNoMore) {
  nlohmann::json json = SmallTokenizer();
  json["pre_tokenizer"] = {{"type", "FixedLength"}, {"length", 0}};  // chunks of nothing
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::FromJson(json.dump()));
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(tokenizer->Encode("text"),
                StatusIs(StatusCode::kInternal, HasSubstr("chunk size must be non-zero")));
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_OK(tokenizer->Encode("<|special|>"));
}

TEST(HostileTokenizer, AnIdOfNoTokenIsNamed) {
  for (const uint32_t id : {kSmallVocabulary, UINT32_MAX}) {
    EXPECT_THAT(Small()->Decode({1, id}),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr(std::to_string(id))));
  }
}

TEST(HostileTokenizer, AMebibyteIsEncoded) {
  const auto tokenizer = Small();
  constexpr size_t kSize = 1 << 20;
  std::string words;
  while (words.size() < kSize) words += "the thé 한국어 ";
  // No place to split, and nothing but places to split.
  for (const std::string& text :
       {words, std::string(kSize, 'h'), std::string(kSize, ' '), std::string(kSize, '\0')}) {
    ASSERT_OK_AND_ASSIGN(const auto encoding, tokenizer->Encode(text));
    EXPECT_EQ(encoding.offsets.back().second, text.size());
    ASSERT_OK_AND_ASSIGN(const std::string decoded, tokenizer->Decode(encoding.ids));
    EXPECT_TRUE(decoded == text) << "they differ; they are too long to print";
  }
}

}  // namespace
}  // namespace secateur
