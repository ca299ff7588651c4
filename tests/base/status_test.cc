// The small parts of base: strings, status_macros, errors, run_context.
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/cord.h"
#include "server/base/errors.h"
#include "server/base/run_context.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

TEST(StrCat, TakesViewsOfBothKinds) {
  const std::string_view std_view = "std";
  const absl::string_view absl_view = "absl";
  EXPECT_EQ(StrCat(std_view, " ", absl_view, std::string(" string "), 7, -1, 0.5),
            "std absl string 7-10.5");
  EXPECT_EQ(ToStd(ToAbsl(std_view)), std_view);
}

absl::StatusOr<int> Half(int n) {
  if (n % 2 != 0) return absl::InvalidArgumentError(StrCat(n, " is odd"));
  return n / 2;
}

absl::StatusOr<int> Quarter(int n) {
  ASSIGN_OR_RETURN(const int half, Half(n));
  ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

absl::Status Check(int n) {
  RETURN_IF_ERROR(Quarter(n).status());
  return absl::OkStatus();
}

TEST(StatusMacros, PassValuesOnAndReturnTheFirstError) {
  EXPECT_THAT(Quarter(12), IsOkAndHolds(3));
  EXPECT_THAT(Quarter(6), StatusIs(absl::StatusCode::kInvalidArgument, "3 is odd"));
  EXPECT_OK(Check(8));
  EXPECT_THAT(Check(7), StatusIs(absl::StatusCode::kInvalidArgument, "7 is odd"));
}

TEST(Annotate, KeepsTheCodeAndThePayloads) {
  absl::Status status = absl::NotFoundError("no such file");
  status.SetPayload("key", absl::Cord("value"));
  const absl::Status annotated = Annotate(status, "config.json");
  EXPECT_THAT(annotated, StatusIs(absl::StatusCode::kNotFound, "config.json: no such file"));
  EXPECT_EQ(annotated.GetPayload("key"), absl::Cord("value"));
  EXPECT_OK(Annotate(absl::OkStatus(), "config.json"));
}

TEST(ErrorNotes, ComeBackAsTheyWereGiven) {
  absl::Status status = absl::NotFoundError("no corpus");
  status = WithField(status, "spec.select");
  status = WithReason(status, "CORPUS_NOT_FOUND");
  status = WithResource(status, "secateur.dev/Corpus", "corpora/c1");
  status = WithRetryAfter(status, absl::Milliseconds(1500));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, "no corpus"));
  const ErrorNotes notes = NotesOf(Annotate(status, "plan"));
  EXPECT_EQ(notes.field, "spec.select");
  EXPECT_EQ(notes.reason, "CORPUS_NOT_FOUND");
  EXPECT_EQ(notes.resource_type, "secateur.dev/Corpus");
  EXPECT_EQ(notes.resource_name, "corpora/c1");
  EXPECT_EQ(notes.retry_after, absl::Milliseconds(1500));
}

TEST(ErrorNotes, KeepSeveralViolationsInOrder) {
  absl::Status status = absl::FailedPreconditionError("not met");
  status = WithViolation(status, "corpora/c1", "rises: by 25 %");
  status = WithViolation(status, "", "nothing");
  const ErrorNotes notes = NotesOf(status);
  ASSERT_EQ(notes.violations.size(), 2U);
  EXPECT_EQ(notes.violations[0].subject, "corpora/c1");
  EXPECT_EQ(notes.violations[0].description, "rises: by 25 %");
  EXPECT_EQ(notes.violations[1].subject, "");
  EXPECT_EQ(notes.violations[1].description, "nothing");
}

TEST(ErrorNotes, AreEmptyWhereNothingWasSaid) {
  for (const absl::Status& status :
       {absl::NotFoundError("no corpus"), WithField(absl::OkStatus(), "spec")}) {
    const ErrorNotes notes = NotesOf(status);
    EXPECT_EQ(notes.field, "");
    EXPECT_EQ(notes.reason, "");
    EXPECT_EQ(notes.resource_type, "");
    EXPECT_EQ(notes.resource_name, "");
    EXPECT_TRUE(notes.violations.empty());
    EXPECT_EQ(notes.retry_after, std::nullopt);
  }
}

TEST(RunContext, IsCancelledOnceAndForAll) {
  RunContext context;
  EXPECT_OK(context.CheckCancelled());
  context.Cancel();
  EXPECT_TRUE(context.cancelled());
  EXPECT_THAT(context.CheckCancelled(), StatusIs(absl::StatusCode::kCancelled));
}

TEST(RunContext, HandsProgressToItsSink) {
  std::vector<std::string> phases;
  RunContext context([&](const Progress& progress) { phases.push_back(progress.phase); });
  context.Report({"slice", 1, 2, "tensors"});
  context.Report({"publish", 2, 2, "tensors"});
  EXPECT_THAT(phases, testing::ElementsAre("slice", "publish"));
  RunContext().Report({"slice", 1, 2, "tensors"});  // no sink: nothing happens
}

}  // namespace
}  // namespace secateur
