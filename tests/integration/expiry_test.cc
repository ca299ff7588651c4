// Experts that end, over gRPC.
#include <filesystem>
#include <string>

#include "server/artifact/expiry.h"
#include "tests/integration/live_server.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;

using testing::HasSubstr;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;

grpc::Status Get(LiveServer& live, const std::string& name, v1::Expert* expert) {
  v1::GetExpertRequest request;
  request.set_name(name);
  return live.Call(&Stub::GetExpert, request, expert);
}

v1::CreateExpertRequest RequestFor(absl::Duration ttl, double neuron_ratio = 0.25) {
  v1::CreateExpertRequest request = LawRequest(neuron_ratio);
  request.mutable_ttl()->set_seconds(absl::ToInt64Seconds(ttl));
  return request;
}

absl::Time EndOf(const v1::Expert& expert) {
  EXPECT_TRUE(expert.has_expire_time()) << expert.ShortDebugString();
  EXPECT_EQ(expert.expire_time().nanos(), 0);
  return absl::FromUnixSeconds(expert.expire_time().seconds());
}

// The folder of an expert's files.
fs::path FolderOf(const v1::Expert& expert) {
  return expert.uri().substr(std::string("file:").size());
}

// As if the expert had been asked for until the year 2020.
void EndInThePast(const v1::Expert& expert) {
  const fs::path folder = FolderOf(expert);
  fs::rename(folder / ExpiryName(EndOf(expert)),
             folder / ExpiryName(absl::FromCivil(absl::CivilSecond(2020), absl::UTCTimeZone())));
}

TEST(ExpireTime, IsExtendedNeverShortenedAndKeptAcrossARestart) {
  LiveServer live;
  UploadLawCorpora(live);
  const absl::Time start = absl::Now();
  const v1::Expert hour = live.Make(RequestFor(absl::Hours(1)));
  EXPECT_GE(EndOf(hour), start + absl::Hours(1));
  EXPECT_LE(EndOf(hour), absl::Now() + absl::Hours(1) + absl::Seconds(1));

  // What is asked for once more is done at once.
  lro::Operation operation;
  ASSERT_RPC_OK(live.Create(RequestFor(absl::Hours(2)), &operation));
  ASSERT_TRUE(operation.done());
  const auto two_hours = ResponseOf<v1::Expert>(operation);
  EXPECT_EQ(two_hours.name(), hour.name());  // not part of its identity
  EXPECT_GE(EndOf(two_hours), start + absl::Hours(2));
  v1::CreateExpertRequest refresh = RequestFor(absl::Minutes(1));
  refresh.set_cache_policy(v1::REFRESH);
  EXPECT_EQ(EndOf(live.Make(refresh)), EndOf(two_hours));

  live.Restart();
  v1::Expert got;
  ASSERT_RPC_OK(Get(live, hour.name(), &got));
  EXPECT_EQ(EndOf(got), EndOf(two_hours));

  EXPECT_FALSE(live.Make(LawRequest()).has_expire_time());  // for ever
  EXPECT_FALSE(live.Make(RequestFor(absl::Hours(1))).has_expire_time());
  live.Restart();
  ASSERT_RPC_OK(Get(live, hour.name(), &got));
  EXPECT_FALSE(got.has_expire_time());
}

TEST(ExpireTime, IsTakenAsATimeToo) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_expire_time()->set_seconds(253'402'300'799);
  EXPECT_EQ(EndOf(live.Make(request)), LastExpiry());
}

TEST(ExpireTime, ThatPassedLeavesNoExpertAndOnlyThatOne) {
  LiveServer live;
  UploadLawCorpora(live);
  const v1::Expert ends = live.Make(RequestFor(absl::Hours(1)));
  const v1::Expert stays = live.Make(RequestFor(absl::Hours(1), 0.5));
  EndInThePast(ends);
  EXPECT_TRUE(Eventually([&] { return !fs::exists(FolderOf(ends) / "config.json"); }));
  EXPECT_FALSE(fs::exists(FolderOf(ends) / "secateur.json"));
  v1::Expert got;
  EXPECT_THAT(Get(live, ends.name(), &got), IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  std::string bytes;
  EXPECT_THAT(live.Download(ends.name(), "config.json", 0, &bytes),
              IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  v1::EvaluateExpertRequest evaluate;
  evaluate.set_name(ends.name());
  lro::Operation operation;
  EXPECT_THAT(live.Call(&Stub::EvaluateExpert, evaluate, &operation),
              IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  v1::ListExpertsRequest list;
  list.set_parent("models/tiny");
  v1::ListExpertsResponse listed;
  ASSERT_RPC_OK(live.Call(&Stub::ListExperts, list, &listed));
  ASSERT_THAT(listed.experts(), SizeIs(1));
  EXPECT_EQ(listed.experts(0).name(), stays.name());
  EXPECT_TRUE(fs::exists(FolderOf(stays) / "secateur.json"));

  const v1::Expert anew = live.Make(RequestFor(absl::Hours(1)));
  EXPECT_EQ(anew.name(), ends.name());
  EXPECT_NE(anew.uri(), ends.uri());
  EXPECT_EQ(DigestsOf(anew), DigestsOf(ends));
  EXPECT_RPC_OK(live.Download(ends.name(), "config.json", 0, &bytes));
}

TEST(ExpireTime, OfARequestThatCannotBeIsRefusedByFieldAndValue) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_expire_time()->set_seconds(1'000'000'000);
  lro::Operation operation;
  grpc::Status status = live.Create(request, &operation);
  EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_EQ(ErrorOf(status).field, "expire_time");
  EXPECT_THAT(status.error_message(), HasSubstr("2001-09-09T01:46:40"));
  request = RequestFor(absl::ZeroDuration());
  status = live.Create(request, &operation);
  EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_EQ(ErrorOf(status).field, "ttl");
}

}  // namespace
}  // namespace secateur
