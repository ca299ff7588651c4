#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/corpus/reader.h"
#include "tests/corpus/parse.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

class Limits : public testing::Test {
 protected:
  static auto Passed(const std::string& message) {
    return StatusIs(StatusCode::kResourceExhausted, HasSubstr(message));
  }
};

TEST_F(Limits, OfATextCountItsBytesNotItsEscapes) {
  CorpusLimits limits;
  limits.document_bytes = 10;
  EXPECT_OK(ParseJson("{\"text\":\"" + std::string(10, 'a') + "\"}", limits));
  EXPECT_OK(ParseJson(R"({"text":"\u0061\u0061\u0061\u0061\u0061\u0061\u0061\u0061\u0061\u0061"})",
                      limits));
  EXPECT_THAT(ParseJson("{\"text\":\"a\"}\n{\"text\":\"" + std::string(11, 'a') + "\"}", limits),
              Passed("line 2: `text` exceeds the limit of 10 bytes"));
  EXPECT_OK(ParseText("12345\r\n7890\r\n\r\n" + std::string(10, 'a'), limits));
  EXPECT_THAT(ParseText("a\n\n12345\n78901", limits),
              Passed("line 3: the paragraph exceeds the limit of 10 bytes"));
  EXPECT_THAT(ParseText(std::string(11, 'a'), limits), Passed("line 1: the paragraph"));
  EXPECT_THAT(ParseText(std::string(1000, 'a'), limits), Passed("limit of 10 bytes"));
}

TEST_F(Limits, OfALineHoldWithoutAnEnd) {
  CorpusLimits limits;
  limits.document_bytes = 10;
  int64_t fed = 0;
  CorpusParser parser(CorpusFormat::kJsonLines, limits, [](Document) { return absl::OkStatus(); });
  absl::Status status;
  while (status.ok() && fed < (1 << 20)) {
    status = parser.Append("{\"text\":\"aaaaaaa");
    fed += 16;
  }
  EXPECT_THAT(status, Passed("line 1: the line exceeds the limit"));
  EXPECT_LT(fed, 100'000);
}

TEST_F(Limits, OfChoicesAndAnswerTogether) {
  CorpusLimits limits;
  limits.document_bytes = 10;
  EXPECT_OK(ParseJson(R"({"text":"a","choices":["12345","678"],"answer":"90"})", limits));
  EXPECT_THAT(ParseJson(R"({"text":"a","choices":["12345","678"],"answer":"901"})", limits),
              Passed("line 1: `choices` and `answer`"));
  std::string many = "{\"text\":\"a\",\"choices\":[\"\"";
  for (int i = 0; i < 1000; ++i) many += ",\"\"";
  EXPECT_THAT(ParseJson(many + "]}"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("more than 1000 strings")));
}

TEST_F(Limits, OfAnId) {
  EXPECT_OK(ParseJson("{\"text\":\"a\",\"id\":\"" + std::string(256, 'i') + "\"}"));
  EXPECT_THAT(ParseJson("{\"text\":\"a\",\"id\":\"" + std::string(257, 'i') + "\"}"),
              StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr("257"), HasSubstr("256"))));
}

TEST_F(Limits, OfTheUpload) {
  CorpusLimits limits;
  limits.corpus_bytes = 24;
  EXPECT_OK(ParseJson("{\"text\":\"0123456789ab\"}\n", limits));
  EXPECT_THAT(ParseJson("{\"text\":\"0123456789ab\"}\n ", limits),
              Passed("line 2: the upload exceeds the limit of 24 bytes"));
  limits = {};
  limits.documents = 2;
  EXPECT_OK(ParseText("a\n\nb\n\n", limits));
  EXPECT_THAT(ParseText("a\n\nb\n\n\n\nc", limits),
              Passed("line 7: the upload exceeds the limit of 2 documents"));
}

TEST_F(Limits, AreADocumentOfOneMebibyteAndAMillionDocumentsUnlessSaidOtherwise) {
  EXPECT_OK(ParseJson("{\"text\":\"" + std::string(1 << 20, 'a') + "\"}"));
  EXPECT_THAT(ParseJson("{\"text\":\"" + std::string((1 << 20) + 1, 'a') + "\"}"),
              Passed("1048576"));
  EXPECT_EQ(CorpusLimits().documents, 1'000'000);
  EXPECT_EQ(CorpusLimits().corpus_bytes, int64_t{1} << 30);
}

}  // namespace
}  // namespace secateur
