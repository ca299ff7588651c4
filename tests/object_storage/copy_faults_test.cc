// GCS and Azure, whose uploads cannot be aborted, behind a proxy that spoils single requests: an
// object is written where nobody looks and copied to its key. See faults.h.
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "server/base/strings.h"
#include "tests/object_storage/faults.h"

namespace secateur {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Kind = Fault::Kind;

bool Has(const ProxiedRequest& request, const char* part) {
  return request.target.find(part) != std::string::npos;
}

struct CopyStore {
  const char* name;
  ObjectServer& (*server)();
  // A request that carries bytes of an object, and the one that copies it to its key.
  bool (*is_part)(const ProxiedRequest&);
  bool (*is_copy)(const ProxiedRequest&);
  std::string (*error)(const std::string& status, const std::string& code);
};

const CopyStore kGcs = {
    "Gcs", AnyGcs,
    [](const ProxiedRequest& r) { return r.method == "PUT" && r.range.starts_with("bytes "); },
    [](const ProxiedRequest& r) { return Has(r, "/rewriteTo/"); }, GcsError};

const CopyStore kAzure = {
    "Azure", AnyAzure,
    [](const ProxiedRequest& r) { return r.method == "PUT" && Has(r, "comp=block"); },
    [](const ProxiedRequest& r) {
      return r.method == "PUT" && !Has(r, "/.tmp/") && !Has(r, "comp=");
    },
    AzureError};

class CopyFaults : public FaultTest, public testing::WithParamInterface<CopyStore> {
 protected:
  CopyFaults() : FaultTest(GetParam().server()) {}

  // A client of GCS asks how much has arrived before it goes on after a fault; the emulator takes
  // the question for the end of the upload. So the proxy answers as GCS does.
  Fault Otherwise(const ProxiedRequest& request, Fault fault) override {
    const std::lock_guard lock(mutex_);
    std::string& last = last_byte_[request.target];
    if (request.range == "bytes */*" && fault.kind == Kind::kNone) {
      const std::string range = last.empty() ? "" : "Range: bytes=0-" + last + "\r\n";
      return {Kind::kAnswer, "HTTP/1.1 308 Resume Incomplete\r\n" + range +
                                 "Connection: close\r\nContent-Length: 0\r\n\r\n"};
    }
    const bool arrives = fault.kind != Kind::kAnswer && fault.kind != Kind::kResetRequest &&
                         fault.kind != Kind::kStall;
    const size_t dash = request.range.find('-');
    if (arrives && dash != std::string::npos) {
      last = request.range.substr(dash + 1, request.range.find('/') - dash - 1);
    }
    return fault;
  }
  Fault Error(const std::string& status, const std::string& code) const {
    return {Kind::kAnswer, GetParam().error(status, code)};
  }

  const std::string large_ = RandomBytes(35 * kMiB);  // two parts of 10 MiB and one of 15

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> last_byte_;  // that arrived, by the upload's target
};

TEST_P(CopyFaults, WhatFailsOnceSucceeds) {
  const std::pair<const char*, Fault> faults[] = {
      {"busy", Error("503 Service Unavailable", "ServerBusy")},
      {"internal", Error("500 Internal Server Error", "InternalError")},
      {"reset-request", {Kind::kResetRequest, ""}}};
  for (const auto& [name, fault] : faults) {
    for (const auto spoiled : {GetParam().is_part, GetParam().is_copy}) {
      const std::string key = StrCat(name, spoiled == GetParam().is_part ? "-part" : "-copy");
      Spoil(spoiled, fault, 1);
      EXPECT_OK(store_->Put(key, large_)) << key;
      ExpectStored(key, large_);
    }
  }
}

TEST_P(CopyFaults, AnAnswerThatIsLostIsNoPartialObject) {
  for (const Kind kind : {Kind::kResetAnswer, Kind::kShortenAnswer}) {
    for (const auto spoiled : {GetParam().is_part, GetParam().is_copy}) {
      const std::string key = StrCat(static_cast<int>(kind), spoiled == GetParam().is_part);
      Spoil(spoiled, {kind, ""}, 1);
      const auto written = store_->Put(key, large_);
      proxy_.Set(nullptr);
      const auto read = store_->ReadAll(key, 1 << 30);
      if (read.ok()) {
        EXPECT_TRUE(*read == large_) << key;
      } else {
        EXPECT_THAT(written, FailsToWrite(absl::StatusCode::kUnavailable, key));
      }
    }
  }
}

TEST_P(CopyFaults, AStoreThatStaysBusyFailsTheWriteAndLeavesNothing) {
  SpoilAll(GetParam().is_part, Error("503 Service Unavailable", "ServerBusy"));
  const auto written = store_->Put("key", "bytes");
  EXPECT_THAT(written, FailsToWrite(absl::StatusCode::kUnavailable, "key"));
  EXPECT_THAT(written.status().message(), HasSubstr("ServerBusy"));
  EXPECT_EQ(hanging_, 0);  // the client gave up by itself
  ExpectNothingLeft();
}

struct Refusal {
  std::string status, code;
  absl::StatusCode expected;
  std::string said;
};

TEST_P(CopyFaults, WhatTheStoreRefusesIsSaidWithWhatToDo) {
  const std::vector<Refusal> gcs = {
      {"401 Unauthorized", "Invalid Credentials", absl::StatusCode::kPermissionDenied,
       "check the server's credentials"},
      {"403 Forbidden", "no storage.objects.create access", absl::StatusCode::kPermissionDenied,
       "check the server's credentials"},
      {"404 Not Found", "The specified bucket does not exist.",
       absl::StatusCode::kFailedPrecondition, "make the bucket"},
      {"404 Not Found", "no such upload", absl::StatusCode::kUnavailable, "no such upload"},
  };
  const std::vector<Refusal> azure = {
      {"403 Forbidden", "AuthenticationFailed", absl::StatusCode::kPermissionDenied,
       "check the server's credentials"},
      {"403 Forbidden", "AuthorizationPermissionMismatch", absl::StatusCode::kPermissionDenied,
       "check the server's credentials"},
      {"404 Not Found", "ContainerNotFound", absl::StatusCode::kFailedPrecondition,
       "make the container"},
      {"404 Not Found", "BlobNotFound", absl::StatusCode::kUnavailable, "proxy-request-7"},
      {"429 Too Many Requests", "TooManyRequests", absl::StatusCode::kUnavailable,
       "proxy-request-7"},
  };
  for (const Refusal& refusal : GetParam().error == GcsError ? gcs : azure) {
    for (const auto spoiled : {GetParam().is_part, GetParam().is_copy}) {
      SpoilAll(spoiled, Error(refusal.status, refusal.code));
      const auto written = store_->Put("key", "bytes");
      EXPECT_THAT(written, FailsToWrite(refusal.expected, "key")) << refusal.code;
      EXPECT_THAT(written.status().message(), HasSubstr(refusal.said));
      ExpectNothingLeft();
    }
    if (refusal.expected != absl::StatusCode::kPermissionDenied) continue;
    SpoilAll([](const auto&) { return true; }, Error(refusal.status, refusal.code));
    const std::pair<const char*, absl::Status> refused[] = {
        {"read key", store_->Read("key", 0, 1).status()},
        {"find key", store_->Head("key").status()},
        {"list", store_->List("", "", 1).status()},
        {"delete key", store_->Delete("key")},
        {"write to", store_->Check()}};
    for (const auto& [what, status] : refused) {
      EXPECT_THAT(status, StatusIs(refusal.expected,
                                   AllOf(HasSubstr(StrCat("cannot ", what)),
                                         HasSubstr(store_->uri()), HasSubstr(refusal.said))));
    }
  }
}

TEST_P(CopyFaults, AStoreThatStopsAnsweringFailsTheWriteInTime) {
  store_ = Open(absl::Seconds(1));
  SpoilAll(GetParam().is_part, {Kind::kStall, ""});
  EXPECT_THAT(
      store_->Put("key", "bytes"),
      StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("no answer"), HasSubstr("key"))));
  EXPECT_THAT(store_->Check(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_GE(hanging_, 2);
  ReleaseWhatHangs();
  EXPECT_THAT(Keys(), IsEmpty());  // what came through late has no name
  EXPECT_OK(Open(absl::Seconds(60))->Put("another", "bytes"));
}

TEST_P(CopyFaults, ReadsAreWholeOrFail) {
  ASSERT_OK(store_->Put("key", large_));
  const auto is_get = [](const ProxiedRequest& r) { return r.method == "GET"; };
  for (const Kind kind : {Kind::kResetAnswer, Kind::kShortenAnswer}) {
    Spoil(is_get, {kind, ""}, 1);
    const auto read = store_->Read("key", kMiB, 9 * kMiB);
    if (read.ok()) {
      EXPECT_TRUE(*read == large_.substr(kMiB, 9 * kMiB));
    }
  }
  store_ = Open(absl::Seconds(3));  // Azure's client asks for the rest without an end
  SpoilAll(is_get, {Kind::kShortenAnswer, ""});
  EXPECT_FALSE(store_->Read("key", kMiB, 9 * kMiB).ok());
  ReleaseWhatHangs();
  store_ = Open(absl::Seconds(60));
  ExpectStored("key", large_);
}

// Azure's client throws at it.
TEST_P(CopyFaults, ARefusalInHtmlIsAnErrorOfTheStore) {
  SpoilAll(GetParam().is_part, {Kind::kAnswer, HttpAnswer("403 Forbidden", "<p>a proxy")});
  const auto written = store_->Put("key", "bytes");
  EXPECT_THAT(written,
              FailsToWrite(GetParam().error == GcsError ? absl::StatusCode::kPermissionDenied
                                                        : absl::StatusCode::kUnavailable,
                           "key"));
  ExpectNothingLeft();
}

INSTANTIATE_TEST_SUITE_P(Stores, CopyFaults, testing::Values(kGcs, kAzure),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(AzureCredentials, WrongOnesAreRefusedAndNotRepeated) {
  const std::string uri = Azure().Uri(NewFolder());
  const char* right = std::getenv("AZURE_STORAGE_KEY");
  ASSERT_NE(right, nullptr);
  const std::string key = right;
  setenv("AZURE_STORAGE_KEY", "d3JvbmctYW5kLXNlY3JldA==", 1);
  const auto opened = ArrowStore::Open(uri, {});
  const absl::Status status = opened.ok() ? (*opened)->Check() : opened.status();
  setenv("AZURE_STORAGE_KEY", key.c_str(), 1);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kPermissionDenied,
                               AllOf(HasSubstr("abfs://"), HasSubstr("credentials"),
                                     Not(HasSubstr("d3Jvbm")), Not(HasSubstr("wrong-and")))));
}

}  // namespace
}  // namespace secateur
