#include "server/service/grpc_status.h"

#include <grpcpp/grpcpp.h>

#include <optional>

#include "google/rpc/error_details.pb.h"
#include "server/base/errors.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

template <class Detail>
std::optional<Detail> DetailOf(const absl::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(ToGrpcStatus(status).error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(status.code()));
  for (const auto& any : details.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

TEST(GrpcStatus, CarriesCodeMessageReasonAndDomain) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpcStatus(absl::OkStatus()).error_details(), "");
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "message");
    const grpc::Status converted = ToGrpcStatus(status);
    EXPECT_EQ(converted.error_code(), code);
    EXPECT_EQ(converted.error_message(), "message");
    const auto info = DetailOf<google::rpc::ErrorInfo>(status);
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->reason(), absl::StatusCodeToString(status.code()));
    EXPECT_EQ(info->domain(), "secateur.dev");
  }
  const auto info =
      DetailOf<google::rpc::ErrorInfo>(WithReason(absl::UnavailableError("message"), "DRAINING"));
  EXPECT_EQ(info->reason(), "DRAINING");
}

TEST(GrpcStatus, NamesTheFieldAtFault) {
  const absl::Status status = WithField(absl::InvalidArgumentError("too large"), "spec.budget");
  const auto bad = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(bad->field_violations_size(), 1);
  EXPECT_EQ(bad->field_violations(0).field(), "spec.budget");
  EXPECT_EQ(bad->field_violations(0).description(), "too large");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status)->metadata().at("field"), "spec.budget");
}

TEST(GrpcStatus, ExplainsPreconditionsResourcesQuotasAndRetries) {
  EXPECT_TRUE(DetailOf<google::rpc::PreconditionFailure>(absl::FailedPreconditionError("first")));
  EXPECT_FALSE(DetailOf<google::rpc::BadRequest>(
      WithField(absl::FailedPreconditionError("first"), "spec.select")));
  EXPECT_TRUE(DetailOf<google::rpc::QuotaFailure>(absl::ResourceExhaustedError("full")));
  const auto quota = DetailOf<google::rpc::QuotaFailure>(
      WithViolation(absl::ResourceExhaustedError("full"), "tenants/a", "2 of 2"));
  ASSERT_TRUE(quota.has_value());
  ASSERT_EQ(quota->violations_size(), 1);
  EXPECT_EQ(quota->violations(0).subject(), "tenants/a");
  EXPECT_EQ(quota->violations(0).description(), "2 of 2");
  const auto resource = DetailOf<google::rpc::ResourceInfo>(
      WithResource(absl::NotFoundError("gone"), "secateur.dev/Corpus", "corpora/c1"));
  ASSERT_TRUE(resource.has_value());
  EXPECT_EQ(resource->resource_type(), "secateur.dev/Corpus");
  EXPECT_EQ(resource->resource_name(), "corpora/c1");
  const auto retry = DetailOf<google::rpc::RetryInfo>(
      WithRetryAfter(absl::UnavailableError("later"), absl::Milliseconds(1500)));
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_delay().seconds(), 1);
  EXPECT_EQ(retry->retry_delay().nanos(), 500'000'000);
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(absl::UnavailableError("later")));
}

TEST(GrpcStatus, TellsEachOfSeveralViolations) {
  absl::Status status = WithReason(absl::FailedPreconditionError("not met"), "GATE_NOT_MET");
  status = WithViolation(status, "corpora/c1", "rises");
  status = WithViolation(status, "corpora/c2", "rises more");
  const auto failure = DetailOf<google::rpc::PreconditionFailure>(status);
  ASSERT_TRUE(failure.has_value());
  ASSERT_EQ(failure->violations_size(), 2);
  EXPECT_EQ(failure->violations(0).type(), "GATE_NOT_MET");
  EXPECT_EQ(failure->violations(0).subject(), "corpora/c1");
  EXPECT_EQ(failure->violations(1).description(), "rises more");
}

TEST(GrpcStatus, CutsMessagesThatWouldNotFitTheHeaders) {
  const absl::Status status = WithField(absl::InvalidArgumentError(std::string(100'000, 'x')), "f");
  const grpc::Status converted = ToGrpcStatus(status);
  EXPECT_LE(converted.error_message().size() + converted.error_details().size(), 8192U);
}

}  // namespace
}  // namespace secateur
