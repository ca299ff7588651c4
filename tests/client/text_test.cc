// Values as people write and read them.
#include <limits>

#include "client/cli/format.h"
#include "client/cli/parse.h"
#include "client/cli/progress.h"
#include "client/cli/table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "secateur/v1/resources.pb.h"
#include "tests/support/status_matchers.h"

namespace secateur::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TEST(ParseShare, TakesPercentAndFractions) {
  const std::pair<const char*, double> cases[] = {{"35%", 0.35}, {"0.35", 0.35}, {"0", 0},
                                                  {"1", 1},      {"100%", 1},    {"12.5 %", 0.125},
                                                  {".5", 0.5},   {"0%", 0}};
  for (const auto& [text, share] : cases) {
    const auto parsed = ParseShare("--remove", text);
    ASSERT_OK(parsed) << text;
    EXPECT_DOUBLE_EQ(*parsed, share) << text;
  }
}

TEST(ParseShare, RefusesEverythingElseAndSaysWhatItTakes) {
  for (const char* text : {"", "35", "1.01", "101%", "-1%", "-0.1", "nan", "inf", "NaN%", "0x1",
                           "35 percent", "35%%", "%", "1e-1", " 35%"}) {
    EXPECT_THAT(ParseShare("--remove", text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--remove"), HasSubstr("35% or 0.35"))))
        << text;
  }
}

TEST(ParseRise, TakesPercentAndFractionsWithoutAnUpperEnd) {
  EXPECT_DOUBLE_EQ(*ParseRise("--gate", "20%"), 0.2);
  EXPECT_DOUBLE_EQ(*ParseRise("--gate", "0"), 0);
  EXPECT_DOUBLE_EQ(*ParseRise("--gate", "250 %"), 2.5);
  EXPECT_DOUBLE_EQ(*ParseRise("--gate", "1.5"), 1.5);
  for (const char* text : {"", "-1%", "nan", "inf", "20%%", "a lot"}) {
    EXPECT_THAT(ParseRise("--gate", text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--gate"), HasSubstr("20% or 0.2"))))
        << text;
  }
}

TEST(ParseCount, TakesUnitsOfAThousand) {
  const std::pair<const char*, int64_t> cases[] = {
      {"1", 1},      {"250000", 250'000}, {"100M", 100'000'000}, {"1.5B", 1'500'000'000},
      {"2 k", 2000}, {"7K", 7000},        {"3G", 3'000'000'000}, {"1T", 1'000'000'000'000},
      {"0.5k", 500}};
  for (const auto& [text, count] : cases) {
    EXPECT_THAT(ParseCount("--max-parameters", text), IsOkAndHolds(count)) << text;
  }
}

TEST(ParseCount, RefusesEverythingElse) {
  for (const char* text : {"", "0", "-5", "1.5", "100m", "100MB", "M", "1e6", "inf", "nan", "10T T",
                           "9223372036854775808", "99999999T"}) {
    EXPECT_THAT(ParseCount("--max-parameters", text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--max-parameters")))
        << text;
  }
}

TEST(ParseBytes, TellsBinaryFromDecimalUnits) {
  const std::pair<const char*, int64_t> cases[] = {{"1", 1},
                                                   {"512B", 512},
                                                   {"250MiB", 250 << 20},
                                                   {"250MB", 250'000'000},
                                                   {"1.5GB", 1'500'000'000},
                                                   {"1 GiB", 1 << 30},
                                                   {"2kB", 2000},
                                                   {"2KB", 2000},
                                                   {"2KiB", 2048},
                                                   {"1TiB", int64_t{1} << 40}};
  for (const auto& [text, bytes] : cases) {
    EXPECT_THAT(ParseBytes("--max-bytes", text), IsOkAndHolds(bytes)) << text;
  }
}

TEST(ParseBytes, RefusesUnitsThatCouldMeanEither) {
  for (const char* text : {"250M", "1G", "1K", "250mib", "", "-1", "0", "0.2"}) {
    EXPECT_THAT(ParseBytes("--max-bytes", text), StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

TEST(ParseTimeSpan, TakesUnitsUpToDays) {
  const std::tuple<const char*, int64_t, int32_t> cases[] = {
      {"90m", 5400, 0},    {"24h", 86'400, 0},  {"1h30m", 5400, 0},      {"7d", 604'800, 0},
      {"7 d", 604'800, 0}, {"0.5d", 43'200, 0}, {"1.5s", 1, 500'000'000}};
  for (const auto& [text, seconds, nanos] : cases) {
    const auto span = ParseTimeSpan("--ttl", text);
    ASSERT_OK(span) << text;
    EXPECT_EQ(span->seconds(), seconds) << text;
    EXPECT_EQ(span->nanos(), nanos) << text;
  }
  for (const char* text : {"", "0", "0s", "-1h", "24", "1w", "inf", "d", "nan", "h"}) {
    EXPECT_THAT(ParseTimeSpan("--ttl", text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--ttl"), HasSubstr("24h or 7d"))))
        << text;
  }
}

TEST(ParseTime, TakesWhatTimesAreShownAs) {
  for (const char* text : {"2026-12-31T23:59:59Z", "2027-01-01T00:59:59+01:00"}) {
    const auto time = ParseTime("--expire-time", text);
    ASSERT_OK(time) << text;
    EXPECT_EQ(time->seconds(), 1'798'761'599) << text;
  }
  for (const char* text :
       {"", "tomorrow", "2026-12-31", "2026-12-31 23:59:59Z", "24h", "2026-13-31T23:59:59Z"}) {
    EXPECT_THAT(ParseTime("--expire-time", text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--expire-time"), HasSubstr("2026-12-31T23:59:59Z"))))
        << text;
  }
}

TEST(ParseKeyValue, SplitsAtTheFirstSign) {
  EXPECT_THAT(ParseKeyValue("--label", "language=ko"), IsOkAndHolds(Pair("language", "ko")));
  EXPECT_THAT(ParseKeyValue("--label", "a=b=c"), IsOkAndHolds(Pair("a", "b=c")));
  for (const char* text : {"", "language", "=ko", "language="}) {
    EXPECT_THAT(ParseKeyValue("--label", text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--label")))
        << text;
  }
}

TEST(ParseLabels, RefusesAKeyTwice) {
  EXPECT_THAT(ParseLabels("--label", {"b=2", "a=1"}),
              IsOkAndHolds(ElementsAre(Pair("a", "1"), Pair("b", "2"))));
  EXPECT_THAT(ParseLabels("--label", {"a=1", "a=1"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a is given twice")));
}

TEST(ParseEnum, TakesNamesWithEitherDashAndInAnyCase) {
  for (const char* text : {"relative-mean", "RELATIVE_MEAN", "Relative-Mean"}) {
    EXPECT_THAT(ParseEnum("--rule", text, *v1::Rule_descriptor()), IsOkAndHolds(v1::RELATIVE_MEAN));
  }
  EXPECT_THAT(ParseEnum("--rule", "", *v1::Rule_descriptor()), IsOkAndHolds(0));
  for (const char* text : {"rule-unspecified", "mean", "1"}) {
    EXPECT_THAT(ParseEnum("--rule", text, *v1::Rule_descriptor()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("--rule"), HasSubstr("relative-mean, cus-prun"))));
  }
}

TEST(Format, GivesThreeDigits) {
  const std::pair<double, const char*> counts[] = {
      {0, "0"},          {999, "999"},     {1000, "1.00k"},   {134'515'008, "135M"},
      {9'994, "9.99k"},  {9'996, "10.0k"}, {999'499, "999k"}, {999'501, "1.00M"},
      {7.3e10, "73.0B"}, {2.5e15, "2500T"}};
  for (const auto& [value, text] : counts) EXPECT_EQ(FormatCount(value), text);
  const std::pair<double, const char*> bytes[] = {{0, "0 B"},
                                                  {512, "512 B"},
                                                  {1024, "1.00 KiB"},
                                                  {102'865'305, "98.1 MiB"},
                                                  {0x1p40, "1.00 TiB"}};
  for (const auto& [value, text] : bytes) EXPECT_EQ(FormatBytes(value), text);
  EXPECT_EQ(FormatNumber(1, "file", "files"), "1 file");
  EXPECT_EQ(FormatNumber(0, "file", "files"), "0 files");
  EXPECT_EQ(FormatShare(0.3541), "35.4%");
  EXPECT_EQ(FormatShare(0), "0.0%");
}

TEST(Format, GivesTimeInTwoUnits) {
  EXPECT_EQ(FormatTimeSpan(absl::Milliseconds(300)), "under 1s");
  EXPECT_EQ(FormatTimeSpan(absl::Seconds(45)), "45s");
  EXPECT_EQ(FormatTimeSpan(absl::Seconds(200)), "3m 20s");
  EXPECT_EQ(FormatTimeSpan(absl::Seconds(7500)), "2h 5m");
}

TEST(Format, ShowsControlCharactersAsQuestionMarks) {
  EXPECT_EQ(Printable("a\x1b[31mb\n\x7f"), "a?[31mb??");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "?31m");
  EXPECT_EQ(Printable("한국어 é"), "한국어 é");
  EXPECT_EQ(Printable("\xc2"), "\xc2");
}

TEST(Format, KeepsEnumNumbersItHasNoNameFor) {
  EXPECT_EQ(FormatEnum(*v1::Rule_descriptor(), v1::CUS_PRUN), "cus-prun");
  EXPECT_EQ(FormatEnum(*v1::Rule_descriptor(), 77), "77");
}

TEST(Table, AlignsColumnsByCharacters) {
  Table table({"NAME", "N"});
  table.AddRow({"é", "1"});
  table.AddRow({"abcdef", "2", "more"});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(),
            "NAME    N\n"
            "é       1\n"
            "abcdef  2  more\n");
}

v1::OperationMetadata Progress(const char* phase, int64_t done, int64_t total, const char* unit) {
  v1::OperationMetadata metadata;
  metadata.set_state(v1::OperationMetadata::RUNNING);
  metadata.mutable_progress()->set_phase(phase);
  metadata.mutable_progress()->set_done(done);
  metadata.mutable_progress()->set_total(total);
  metadata.mutable_progress()->set_unit(unit);
  return metadata;
}

TEST(Progress, ShowsWhatIsKnown) {
  v1::OperationMetadata metadata = Progress("profile", 420, 1000, "tokens");
  metadata.mutable_progress()->set_tokens_per_second(612);
  metadata.mutable_progress()->mutable_eta()->set_seconds(125);
  EXPECT_EQ(FormatProgress(metadata), "profile  42%  420 of 1.00k tokens  612 tokens/s  ETA 2m 5s");
  EXPECT_EQ(FormatProgress(Progress("write", 3 << 20, 0, "bytes")), "write  3.00 MiB");
  metadata = Progress("write", 1 << 20, 4 << 20, "bytes");
  metadata.mutable_progress()->set_rate(2 << 20);
  EXPECT_EQ(FormatProgress(metadata), "write  25%  1.00 MiB of 4.00 MiB  2.00 MiB/s");
  v1::OperationMetadata queued;
  queued.set_state(v1::OperationMetadata::QUEUED);
  EXPECT_EQ(FormatProgress(queued), "queued");
}

TEST(Progress, StaysWithinItsBar) {
  EXPECT_LT(ShareDone(Progress("p", 5, 0, "tokens").progress()), 0);
  EXPECT_DOUBLE_EQ(ShareDone(Progress("p", 5, 10, "tokens").progress()), 0.5);
  EXPECT_DOUBLE_EQ(ShareDone(Progress("p", 50, 10, "tokens").progress()), 1);
  EXPECT_DOUBLE_EQ(ShareDone(Progress("p", -5, 10, "tokens").progress()), 0);
  std::ostringstream err;
  {
    ProgressBar(err, true).Show(0.5, std::string(500, 'x'));
  }
  EXPECT_THAT(err.str(), HasSubstr("[######......] "));
  EXPECT_LT(err.str().size(), 100u);
}

}  // namespace
}  // namespace secateur::cli
