#include "server/service/evaluation_corpora.h"

#include <limits>

#include "server/base/errors.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string Id(char digit) { return "c" + std::string(40, digit); }
std::string Name(char digit) { return "corpora/" + Id(digit); }

template <class... Entries>
google::protobuf::RepeatedPtrField<v1::GateEntry> Gate(const Entries&... entries) {
  google::protobuf::RepeatedPtrField<v1::GateEntry> gate;
  for (const std::pair<std::string, double>& entry : {entries...}) {
    v1::GateEntry& out = *gate.Add();
    out.set_corpus(entry.first);
    out.set_max_rise(entry.second);
  }
  return gate;
}
using Entry = std::pair<std::string, double>;

TEST(ParseEvaluationCorpora, SortsNamesAndCountsEachOnce) {
  google::protobuf::RepeatedPtrField<std::string> names;
  EXPECT_THAT(ParseEvaluationCorpora(names, "corpora"), IsOkAndHolds(IsEmpty()));
  for (const char digit : {'b', 'a', 'b'}) *names.Add() = Name(digit);
  EXPECT_THAT(ParseEvaluationCorpora(names, "corpora"),
              IsOkAndHolds(ElementsAre(Id('a'), Id('b'))));
  *names.Add() = "corpora/x";
  const auto malformed = ParseEvaluationCorpora(names, "corpora");
  EXPECT_THAT(malformed, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(NotesOf(malformed.status()).field, "corpora[3]");
  while (names.size() < 33) *names.Add() = Name('a');
  EXPECT_THAT(ParseEvaluationCorpora(names, "corpora"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 32")));
}

TEST(GateFromProto, TakesOneEntryForAllAndOneForEachCorpus) {
  const std::vector<std::string> ids = {Id('a'), Id('b')};
  EXPECT_THAT(GateFromProto({}, {}), IsOkAndHolds(IsEmpty()));
  ASSERT_OK_AND_ASSIGN(const QualityGate gate,
                       GateFromProto(Gate(Entry("", 0.2), Entry(Name('b'), 0)), ids));
  ASSERT_THAT(gate, SizeIs(2));
  EXPECT_EQ(gate[0].corpus, "");
  EXPECT_EQ(gate[0].max_rise, 0.2);
  EXPECT_EQ(gate[1].corpus, Id('b'));
  EXPECT_EQ(gate[1].max_rise, 0);
}

TEST(GateFromProto, NamesTheFieldThatCannotBe) {
  const std::vector<std::string> ids = {Id('a'), Id('b')};
  const auto field = [](const absl::StatusOr<QualityGate>& gate) {
    EXPECT_THAT(gate, StatusIs(absl::StatusCode::kInvalidArgument));
    return NotesOf(gate.status()).field;
  };
  EXPECT_EQ(field(GateFromProto(Gate(Entry("", 0.2)), {})), "gate");
  for (const double rise :
       {-0.1, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(field(GateFromProto(Gate(Entry("", rise)), ids)), "gate[0].max_rise");
  }
  EXPECT_EQ(field(GateFromProto(Gate(Entry("", 1), Entry(Name('c'), 1)), ids)), "gate[1].corpus");
  EXPECT_EQ(field(GateFromProto(Gate(Entry("c1", 1)), ids)), "gate[0].corpus");
  EXPECT_EQ(field(GateFromProto(Gate(Entry("", 1), Entry("", 2)), ids)), "gate[1].corpus");
  EXPECT_EQ(field(GateFromProto(Gate(Entry(Name('a'), 1), Entry(Name('a'), 1)), ids)),
            "gate[1].corpus");
}

}  // namespace
}  // namespace secateur
