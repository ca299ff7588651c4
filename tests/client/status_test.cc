#include "client/status.h"

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::ElementsAre;
using testing::Pair;

google::rpc::Status RichStatus() {
  google::rpc::Status status;
  status.set_code(grpc::StatusCode::OUT_OF_RANGE);
  status.set_message("width 8 is below 32");
  google::rpc::ErrorInfo info;
  info.set_reason("BUDGET_NOT_REACHABLE");
  info.set_domain("secateur.dev");
  (*info.mutable_metadata())["smallest"] = "32";
  status.add_details()->PackFrom(info);
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("spec.budget.width");
  violation->set_description("at least 32");
  status.add_details()->PackFrom(bad);
  google::rpc::PreconditionFailure precondition;
  precondition.add_violations()->set_description("profile first");
  status.add_details()->PackFrom(precondition);
  google::rpc::QuotaFailure quota;
  quota.add_violations()->set_description("queue is full");
  status.add_details()->PackFrom(quota);
  google::rpc::ResourceInfo resource;
  resource.set_resource_type("secateur.dev/Model");
  resource.set_resource_name("models/m");
  status.add_details()->PackFrom(resource);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(2);
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  status.add_details()->PackFrom(retry);
  return status;
}

grpc::Status AsGrpc(const google::rpc::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), status.message(),
          status.SerializeAsString()};
}

void ExpectRich(const absl::Status& status) {
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange, "width 8 is below 32"));
  const StatusDetails details = DetailsOfStatus(status);
  EXPECT_EQ(details.reason, "BUDGET_NOT_REACHABLE");
  EXPECT_EQ(details.domain, "secateur.dev");
  EXPECT_THAT(details.metadata, ElementsAre(Pair("smallest", "32")));
  ASSERT_EQ(details.fields.size(), 1u);
  EXPECT_EQ(details.fields[0].field, "spec.budget.width");
  EXPECT_EQ(details.fields[0].description, "at least 32");
  EXPECT_THAT(details.violations, ElementsAre("profile first", "queue is full"));
  EXPECT_EQ(details.resource_type, "secateur.dev/Model");
  EXPECT_EQ(details.resource_name, "models/m");
  EXPECT_EQ(details.retry_after, absl::Milliseconds(2500));
}

TEST(Status, OfACallKeepsCodeMessageAndEveryDetail) {
  ExpectRich(FromGrpcStatus(AsGrpc(RichStatus())));
}

TEST(Status, OfAnOperationKeepsCodeMessageAndEveryDetail) {
  ExpectRich(FromRpcStatus(RichStatus()));
}

TEST(Status, KeepsEveryCodeThatAbseilKnows) {
  for (int code = 0; code <= 16; ++code) {
    EXPECT_EQ(static_cast<int>(
                  FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(code), "m")).code()),
              code);
  }
}

TEST(Status, OfACodeFromTheFutureIsUnknown) {
  EXPECT_THAT(FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(17), "m")),
              StatusIs(absl::StatusCode::kUnknown, "m"));
  google::rpc::Status negative;
  negative.set_code(-3);
  EXPECT_THAT(FromRpcStatus(negative), StatusIs(absl::StatusCode::kUnknown));
}

TEST(Status, IgnoresDetailsThatDoNotParse) {
  const grpc::Status garbled(grpc::StatusCode::NOT_FOUND, "gone", "\xff\xff not a status");
  EXPECT_THAT(FromGrpcStatus(garbled), StatusIs(absl::StatusCode::kNotFound, "gone"));
  google::rpc::Status status = RichStatus();
  for (auto& detail : *status.mutable_details()) detail.set_value("\xff\xff\xff");
  const StatusDetails details = DetailsOfStatus(FromRpcStatus(status));
  EXPECT_EQ(details.reason, "");
  EXPECT_TRUE(details.fields.empty());
  EXPECT_FALSE(details.retry_after.has_value());
}

TEST(Status, WithoutDetailsHasNone) {
  const StatusDetails details = DetailsOfStatus(absl::NotFoundError("gone"));
  EXPECT_EQ(details.reason, "");
  EXPECT_FALSE(details.retry_after.has_value());
}

}  // namespace
}  // namespace secateur
