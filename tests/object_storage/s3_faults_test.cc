// A real S3 server behind a proxy that spoils single requests. Each fault ends in success after
// retries or in an error that says what failed where; never in a visible object that is not whole,
// never in an upload that stays behind, never in a call that does not return.
#include <string>
#include <utility>

#include "server/base/strings.h"
#include "tests/object_storage/faults.h"

namespace secateur {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = Fault::Kind;

bool IsPart(const ProxiedRequest& request, int number) {
  return request.method == "PUT" &&
         request.target.find(StrCat("partNumber=", number, "&")) != std::string::npos;
}
bool IsComplete(const ProxiedRequest& request) {
  return request.method == "POST" && request.target.find("uploadId=") != std::string::npos;
}

class S3Faults : public FaultTest {
 protected:
  S3Faults() : FaultTest(S3()) {}

  void ExpectNothingLeft() override {
    FaultTest::ExpectNothingLeft();
    EXPECT_THAT(S3().PendingUploads(), IsEmpty());
  }
  void ExpectStored(const std::string& key, const std::string& bytes) override {
    FaultTest::ExpectStored(key, bytes);
    EXPECT_THAT(S3().PendingUploads(), IsEmpty());
  }

  // Four parts in a batch and one of 15 MiB after it.
  const std::string large_ = RandomBytes(55 * kMiB);
};

TEST_F(S3Faults, WhatFailsForAWhileSucceeds) {
  const std::pair<const char*, Fault> faults[] = {
      {"slow-down", {Kind::kAnswer, S3Error("503 Slow Down", "SlowDown")}},
      {"internal", {Kind::kAnswer, S3Error("500 Internal Server Error", "InternalError")}},
      {"reset-request", {Kind::kResetRequest, ""}},
      {"reset-answer", {Kind::kResetAnswer, ""}}};
  for (const auto& [name, fault] : faults) {
    Spoil([](const auto& r) { return IsPart(r, 2) || IsPart(r, 5); }, fault, 2);
    EXPECT_OK(store_->Put(name, large_)) << name;
    ExpectStored(name, large_);
  }
}

// The client takes half of the headers for all of them, and misses the part's tag at the end.
TEST_F(S3Faults, AnAnswerWithHalfItsHeadersFailsTheWriteAndLeavesNothing) {
  Spoil([](const auto& r) { return IsPart(r, 2); }, {Kind::kShortenAnswer, ""}, 1);
  EXPECT_THAT(store_->Put("key", large_), FailsToWrite(absl::StatusCode::kUnavailable, "key"));
  ExpectNothingLeft();
}

TEST_F(S3Faults, SmallObjectsAreTriedAgainToo) {
  Spoil([](const auto& r) { return r.method == "PUT"; },
        {Kind::kAnswer, S3Error("503 Slow Down", "SlowDown")}, 2);
  EXPECT_OK(store_->Put("small", "bytes"));
  ExpectStored("small", "bytes");
}

TEST_F(S3Faults, APartThatNeverArrivesFailsTheWriteAndLeavesNothing) {
  for (const int part : {1, 5}) {
    SpoilAll([part](const auto& r) { return IsPart(r, part); },
             {Kind::kAnswer, S3Error("503 Slow Down", "SlowDown")});
    const auto written = store_->Put("key", large_);
    EXPECT_THAT(written, FailsToWrite(absl::StatusCode::kUnavailable, "key"));
    EXPECT_THAT(written.status().message(),
                AllOf(HasSubstr("SLOW_DOWN"), HasSubstr("proxy-request-7")));
    ExpectNothingLeft();
  }
}

TEST_F(S3Faults, AnErrorInTheMiddleOfOkFailsTheWriteAndLeavesNothing) {
  SpoilAll(IsComplete, {Kind::kAnswer, S3Error("200 OK", "InternalError")});
  EXPECT_THAT(store_->Put("key", large_), FailsToWrite(absl::StatusCode::kUnavailable, "key"));
  ExpectNothingLeft();
}

TEST_F(S3Faults, AnAnswerThatIsLostAfterTheStoreDidItsWorkIsNoPartialObject) {
  Spoil(IsComplete, {Kind::kResetAnswer, ""}, 1);
  const auto written = store_->Put("key", large_);
  // Tried again, the store knows the upload no more; whatever is said, the object is whole.
  ExpectStored("key", large_);
  if (!written.ok()) {
    EXPECT_THAT(written, FailsToWrite(absl::StatusCode::kUnavailable, "key"));
  }
}

TEST_F(S3Faults, WhatTheStoreRefusesIsSaidWithWhatToDo) {
  const struct {
    const char* status;
    const char* code;
    absl::StatusCode expected;
    const char* advice;
  } refusals[] = {
      {"403 Forbidden", "AccessDenied", absl::StatusCode::kPermissionDenied, "credentials"},
      {"400 Bad Request", "ExpiredToken", absl::StatusCode::kPermissionDenied, "renew"},
      {"403 Forbidden", "RequestTimeTooSkewed", absl::StatusCode::kFailedPrecondition, "clock"},
      {"403 Forbidden", "InvalidAccessKeyId", absl::StatusCode::kPermissionDenied, "credentials"},
      {"403 Forbidden", "SignatureDoesNotMatch", absl::StatusCode::kPermissionDenied,
       "credentials"},
      {"404 Not Found", "NoSuchBucket", absl::StatusCode::kFailedPrecondition, "make the bucket"},
  };
  for (const auto& refusal : refusals) {
    SpoilAll([](const auto& r) { return r.method == "PUT"; },
             {Kind::kAnswer, S3Error(refusal.status, refusal.code)});
    const auto written = store_->Put("key", "bytes");
    EXPECT_THAT(written, FailsToWrite(refusal.expected, "key")) << refusal.code;
    EXPECT_THAT(written.status().message(), HasSubstr(refusal.advice));
    ExpectNothingLeft();
  }
}

TEST_F(S3Faults, AWriteThatIsGivenUpLeavesNothing) {
  for (const int64_t size : {5 * kMiB, 25 * kMiB, 45 * kMiB, 95 * kMiB}) {
    ASSERT_OK_AND_ASSIGN(auto writer, store_->Create("key"));
    ASSERT_OK(writer->Append(RandomBytes(size)));
    writer.reset();
    ExpectNothingLeft();
  }
}

TEST_F(S3Faults, AStoreThatStopsAnsweringFailsTheWriteInTime) {
  store_ = Open(absl::Seconds(1));
  SpoilAll([](const auto& r) { return r.method == "PUT"; }, {Kind::kStall, ""});
  EXPECT_THAT(
      store_->Put("key", "bytes"),
      StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("no answer"), HasSubstr("key"))));
  EXPECT_THAT(store_->Check(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_GE(hanging_, 2);
  ReleaseWhatHangs();
  EXPECT_OK(Open(absl::Minutes(1))->Put("another", "bytes"));
  // What was given up may come through after all, whole.
  const auto late = store_->ReadAll("key", 100);
  if (late.ok()) {
    EXPECT_EQ(*late, "bytes");
  }
}

TEST_F(S3Faults, NoMoreBucketsAreOpenedWhileManyCallsHang) {
  SpoilAll([](const auto&) { return true; }, {Kind::kStall, ""});
  const auto open = [&](absl::Duration limit = absl::Milliseconds(50)) {
    return ArrowStore::Open(
        S3().Uri(folder_, proxy_.port()),
        {.stall_limit = limit, .on_abandoned = [this](int change) { hanging_ += change; }});
  };
  for (int i = 0; i < ArrowStore::kMostHanging; ++i) {
    EXPECT_THAT(open(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no answer")));
  }
  EXPECT_THAT(open(), StatusIs(absl::StatusCode::kUnavailable,
                               AllOf(HasSubstr("16 calls"), HasSubstr("s3://bucket/"))));
  ReleaseWhatHangs();
  EXPECT_OK(open(absl::Minutes(1)));
}

TEST_F(S3Faults, ReadsAreWholeOrFail) {
  ASSERT_OK(store_->Put("key", large_));
  const auto is_get = [](const ProxiedRequest& r) { return r.method == "GET"; };
  for (const Kind kind : {Kind::kResetAnswer, Kind::kShortenAnswer}) {
    Spoil(is_get, {kind, ""}, 1);
    const auto read = store_->Read("key", kMiB, 9 * kMiB);
    if (read.ok()) {
      EXPECT_TRUE(*read == large_.substr(kMiB, 9 * kMiB));
    }
  }
  SpoilAll(is_get, {Kind::kShortenAnswer, ""});
  EXPECT_FALSE(store_->Read("key", kMiB, 9 * kMiB).ok());
  ExpectStored("key", large_);
}

TEST(S3Credentials, WrongOnesAreRefusedAndNotRepeated) {
  const std::string uri = S3().Uri(NewFolder());
  setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret", 1);
  const auto opened = ArrowStore::Open(uri, {});
  const absl::Status status = opened.ok() ? (*opened)->Check() : opened.status();
  setenv("AWS_SECRET_ACCESS_KEY", "testsecret", 1);
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("s3://bucket/"), testing::Not(HasSubstr("wrong-and-secret")),
                             testing::Not(HasSubstr("endpoint_override")))));
}

}  // namespace
}  // namespace secateur
