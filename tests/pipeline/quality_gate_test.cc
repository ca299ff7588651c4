#include "server/pipeline/quality_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "server/base/errors.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

google::protobuf::RepeatedPtrField<v1::EvaluationResult> Results(
    const std::vector<std::tuple<std::string, double, double>>& rows) {
  google::protobuf::RepeatedPtrField<v1::EvaluationResult> results;
  for (const auto& [corpus, base, expert] : rows) {
    v1::EvaluationResult& result = *results.Add();
    result.set_corpus("corpora/" + corpus);
    result.set_base_bits_per_byte(base);
    result.set_expert_bits_per_byte(expert);
  }
  return results;
}

TEST(CheckGate, LetsPassWhatRisesByNoMoreThanIsAllowed) {
  const auto results = Results({{"a", 1.0, 1.25}, {"b", 2.0, 1.5}});
  EXPECT_OK(CheckGate({}, results));
  EXPECT_OK(CheckGate({{"", 0.25}}, results));
  EXPECT_OK(CheckGate({{"b", 0}}, results));
  EXPECT_OK(CheckGate({{"", 0}, {"a", 0.3}}, results));  // its own entry comes first
  EXPECT_OK(CheckGate({{"a", 0.3}, {"", 0}}, results));
  EXPECT_OK(CheckGate({{"", 0.1}}, Results({})));
}

TEST(CheckGate, NamesEveryCorpusThatRisesFurtherWithMeasuredAndAllowedValues) {
  const auto results = Results({{"a", 1.0, 1.25}, {"b", 2.0, 1.5}, {"c", 1.0, 1.1}});
  const absl::Status status = CheckGate({{"", 0.2}, {"c", 0.05}}, results);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                               AllOf(HasSubstr("2 of 3"), HasSubstr("corpora/a: "),
                                     HasSubstr("corpora/c: "))));
  const ErrorNotes notes = NotesOf(status);
  EXPECT_EQ(notes.reason, "GATE_NOT_MET");
  ASSERT_THAT(notes.violations, SizeIs(2));
  EXPECT_EQ(notes.violations[0].subject, "corpora/a");
  EXPECT_EQ(notes.violations[0].description,
            "bits per byte rise by 25.00 % (from 1.0000 to 1.2500); 20.00 % are allowed");
  EXPECT_EQ(notes.violations[1].subject, "corpora/c");
  EXPECT_THAT(notes.violations[1].description, HasSubstr("5.00 % are allowed"));
}

TEST(CheckGate, IsNotMetByWhatIsNoNumber) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& results : {Results({{"a", 1.0, nan}}), Results({{"a", nan, 1.0}})}) {
    EXPECT_THAT(CheckGate({{"", 100}}, results), StatusIs(absl::StatusCode::kFailedPrecondition));
  }
}

}  // namespace
}  // namespace secateur
