#include "server/corpus/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "server/base/strings.h"
#include "server/corpus/json_document.h"
#include "tests/corpus/parse.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::vector<std::string> Texts(const absl::StatusOr<Parsed>& parsed) {
  EXPECT_OK(parsed);
  std::vector<std::string> texts;
  for (const Document& document : parsed->documents) texts.push_back(document.text);
  return texts;
}

// Every way in which lines can end, blank lines, characters of all lengths, a mark at the start.
constexpr std::string_view kJsonUpload =
    "\xEF\xBB\xBF{\"text\":\"caf\xC3\xA9 \xED\x95\x9C "
    "\xF0\x9F\x98\x80\",\"id\":\"1\",\"x\":[1]}\r\n"
    "\n \t \r\n{\"answer_byte\": 2, \"text\":\"a\\n\\ud83d\\ude00\"}\n\r\n"
    "{\"choices\":[\"\",\"\xC3\xA9\"],\"label\":1,\"answer\":\"\xC3\xA9\",\"text\":\"b\"}";
constexpr std::string_view kTextUpload =
    "\xEF\xBB\xBF\n\r\none caf\xC3\xA9\r\ntwo\n \t\nthree \xF0\x9F\x98\x80\r\n\r\n\n  "
    "four\rfive\n\nsix\r";

TEST(CorpusParser, HowTheUploadIsCutMakesNoDifference) {
  std::mt19937 random(1);
  for (const auto& [format, upload] : {std::pair(CorpusFormat::kJsonLines, kJsonUpload),
                                       std::pair(CorpusFormat::kText, kTextUpload)}) {
    ASSERT_OK_AND_ASSIGN(const Parsed whole, Parse(format, upload));
    const auto expect_same = [&](const std::function<size_t(size_t)>& chunk_size) {
      ASSERT_OK_AND_ASSIGN(const Parsed parsed, Parse(format, upload, chunk_size));
      ASSERT_EQ(parsed.documents, whole.documents);
      ASSERT_EQ(parsed.dropped_fields, whole.dropped_fields);
    };
    for (size_t cut = 1; cut < upload.size(); ++cut) {  // two pieces
      expect_same([&](size_t at) { return at == 0 ? cut : upload.size(); });
    }
    for (size_t size = 1; size < 20; ++size) {  // equal pieces
      expect_same([&](size_t) { return size; });
    }
    for (int round = 0; round < 200; ++round) {
      expect_same([&](size_t) { return 1 + random() % 30; });
    }
  }
}

TEST(CorpusParser, HowAFaultyUploadIsCutMakesNoDifferenceToTheError) {
  CorpusLimits limits;
  limits.document_bytes = 20;
  limits.corpus_bytes = 200;
  limits.documents = 3;
  const std::string_view good = "{\"text\":\"good\"}\n";
  const std::vector<std::string> uploads = {
      StrCat(good, "{\"text\":\"\xC3\"}\n{\"text\":1}"),
      StrCat(good, "{\"text\":1}\n\xFF\n"),
      StrCat(good, "{\"text\":\"123456789012345678901\"}\nnonsense"),
      StrCat(good, good, good, good, "nonsense"),
      StrCat(good, "\n", std::string(300, ' '), "nonsense"),
      StrCat(good, "nonsense\n", std::string(300, ' ')),
  };
  for (const std::string& upload : uploads) {
    const absl::Status whole = Parse(CorpusFormat::kJsonLines, upload, limits).status();
    ASSERT_FALSE(whole.ok()) << upload;
    for (size_t size = 1; size < upload.size(); ++size) {
      const auto parsed =
          Parse(CorpusFormat::kJsonLines, upload, [&](size_t) { return size; }, limits);
      ASSERT_EQ(parsed.status(), whole) << size;
    }
  }
}

TEST(CorpusParser, EmptyChunksAreFine) {
  std::vector<std::string> texts;
  CorpusParser parser(CorpusFormat::kText, {}, [&](const Document& document) {
    texts.push_back(document.text);
    return absl::OkStatus();
  });
  for (const std::string_view chunk : {"", "a", "", "\n", "", "b", ""})
    EXPECT_OK(parser.Append(chunk));
  EXPECT_OK(parser.Finish());
  EXPECT_THAT(texts, ElementsAre("a\nb"));
}

TEST(CorpusParser, KeepsTheFieldsOfADocumentAndCountsTheOthers) {
  ASSERT_OK_AND_ASSIGN(
      const Parsed parsed,
      ParseJson(R"({"language":"en","id":"x-1","text":"Q? A","answer_byte":3,"choices":["A","B"],)"
                R"("label":0,"answer":"A","meta":{"text":"inner","id":[1,{"label":2}]},"n":null})"
                "\n"
                R"({"text":"plain","id":null,"answer_byte":null,"choices":null,"label":null,)"
                R"("answer":null,"Text":"other case"})"));
  Document full;
  full.text = "Q? A";
  full.id = "x-1";
  full.answer_byte = 3;
  full.choices = {"A", "B"};
  full.label = 0;
  full.answer = "A";
  Document plain;
  plain.text = "plain";
  EXPECT_THAT(parsed.documents, ElementsAre(full, plain));
  EXPECT_EQ(parsed.dropped_fields, 4);
}

TEST(CorpusParser, TextIsCutAtBlankLinesAndItsLinesAreJoined) {
  EXPECT_THAT(Texts(ParseText(kTextUpload)),
              ElementsAre("one caf\xC3\xA9\ntwo", "three \xF0\x9F\x98\x80", "  four\rfive", "six"));
  EXPECT_THAT(Texts(ParseText("{\"text\":\"not read as JSON\"}")),
              ElementsAre("{\"text\":\"not read as JSON\"}"));
}

TEST(CorpusParser, AnErrorStays) {
  CorpusParser parser(CorpusFormat::kJsonLines, {}, [](Document) { return absl::OkStatus(); });
  EXPECT_OK(parser.Append("{\"text\":\"a\"}\n"));
  const absl::Status first = parser.Append("nonsense\n");
  EXPECT_THAT(first, StatusIs(StatusCode::kInvalidArgument, StartsWith("line 2: ")));
  EXPECT_EQ(parser.Append("{\"text\":\"b\"}\n"), first);
  EXPECT_EQ(parser.Finish(), first);
}

TEST(CorpusParser, AnErrorOfTheSinkEndsIt) {
  int calls = 0;
  CorpusParser parser(CorpusFormat::kText, {}, [&calls](Document) {
    return ++calls == 2 ? absl::UnavailableError("disk gone") : absl::OkStatus();
  });
  const absl::Status failed = parser.Append("a\n\nb\n\nc\n\n");
  EXPECT_THAT(failed, StatusIs(StatusCode::kUnavailable, HasSubstr("disk gone")));
  EXPECT_EQ(parser.Finish(), failed);
  EXPECT_EQ(calls, 2);
}

TEST(CorpusParser, BadUtf8IsNamedByColumnAndByte) {
  EXPECT_THAT(
      ParseJson("{\"text\":\"a\"}\n{\"text\":\"ab\xC3\"}"),
      StatusIs(StatusCode::kInvalidArgument, "line 2: invalid UTF-8 at column 12: byte 0xC3"));
  EXPECT_THAT(ParseText("fine\n\n\xFF"), StatusIs(StatusCode::kInvalidArgument,
                                                  "line 3: invalid UTF-8 at column 1: byte 0xFF"));
}

TEST(CorpusParser, BadJsonIsNamedByColumnWithoutRepeatingTheText) {
  const std::string secret = "do not log me";
  EXPECT_THAT(ParseJson("{\"text\":\"" + secret + "\",}"),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(StartsWith("line 1: not valid JSON at column 25: syntax error"),
                             Not(HasSubstr(secret)))));
  EXPECT_THAT(ParseJson("{\"text\":\"" + secret + "\xE2\x80\xA8" + std::string(1, '\x01') + "\"}"),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("not valid JSON"), Not(HasSubstr(secret)))));
  EXPECT_THAT(
      ParseJson("{\"text\":\"a\",\"n\":1" + std::string(100'000, '0') + "}").status().message(),
      testing::SizeIs(testing::Lt(300u)));
}

TEST(CorpusParser, KeptFieldsGivenTwiceAreRefusedOthersAreNot) {
  EXPECT_THAT(ParseJson(R"({"text":"a","text":"b"})"),
              StatusIs(StatusCode::kInvalidArgument, "line 1: `text` is given twice"));
  EXPECT_THAT(ParseJson(R"({"text":"a","label":null,"label":null})"),
              StatusIs(StatusCode::kInvalidArgument, "line 1: `label` is given twice"));
  ASSERT_OK_AND_ASSIGN(const Parsed parsed, ParseJson(R"({"text":"a","x":1,"x":2})"));
  EXPECT_EQ(parsed.dropped_fields, 2);
}

TEST(CorpusParser, ChoicesHoldStringsOnly) {
  for (const std::string bad : {"1", "null", "true", "[]", "{}", "[\"x\"]", "1.5"}) {
    EXPECT_THAT(ParseJson("{\"text\":\"a\",\"choices\":[\"b\"," + bad + "]}"),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr("`choices` must be an array of")))
        << bad;
  }
}

TEST(CorpusParser, AnswerByteMarksAnyCharacterOfTheText) {
  const auto parse = [](int64_t at) {
    return ParseJson(StrCat("{\"text\":\"a\xC3\xA9\xF0\x9F\x98\x80z\",\"answer_byte\":", at, "}"));
  };
  for (int64_t at = -2; at < 12; ++at) {
    const bool starts_character = at == 0 || at == 1 || at == 3 || at == 7;
    const char* reason = at < 0 || at >= 8 ? "outside the text" : "inside a character";
    if (starts_character) {
      EXPECT_OK(parse(at)) << at;
    } else {
      EXPECT_THAT(parse(at),
                  StatusIs(StatusCode::kInvalidArgument,
                           AllOf(HasSubstr(StrCat("`answer_byte` is ", at)), HasSubstr(reason))));
    }
  }
}

TEST(CorpusParser, AnIdSeenBeforeNamesBothLines) {
  EXPECT_THAT(
      ParseJson("\n{\"text\":\"a\",\"id\":\"k\\u0001\"}\n\n{\"text\":\"b\",\"id\":\"k\\u0001\"}"),
      StatusIs(StatusCode::kInvalidArgument,
               AllOf(StartsWith("line 4: `id`"), HasSubstr("was given on line 2"),
                     Not(HasSubstr("\x01")))));
  EXPECT_OK(ParseJson("{\"text\":\"a\",\"id\":\"\"}\n{\"text\":\"b\",\"id\":\"\"}"));
}

TEST(CorpusParser, NestingIsBounded) {
  const auto nested = [](int depth) {
    return ParseJson("{\"text\":\"a\",\"x\":" + std::string(depth, '[') + std::string(depth, ']') +
                     "}");
  };
  EXPECT_OK(nested(kMostJsonDepth - 1));
  EXPECT_THAT(nested(kMostJsonDepth),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr(StrCat(kMostJsonDepth))));
  EXPECT_THAT(nested(1'000'000), StatusIs(StatusCode::kInvalidArgument, HasSubstr("JSON")));
}

}  // namespace
}  // namespace secateur
