// Identical requests at the same time: one of them works, all of them see it.
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/live_server.h"

namespace secateur {
namespace {

using testing::Each;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;

constexpr int kRequests = 6;

class JoinedRequests : public testing::Test {
 protected:
  JoinedRequests() : live_([](ServerOptions& options) { options.workers = kRequests; }) {}

  double Metric(const std::string& name) const {
    const std::string text = live_.Http("/metrics");
    const size_t at = text.find("\n" + name + " ");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? 0 : std::atof(text.c_str() + at + name.size() + 2);
  }
  // The same request again and again; all of them are under way when this returns.
  template <class Request>
  std::vector<std::string> Start(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                              lro::Operation*),
                                 const Request& request) {
    std::vector<std::string> names;
    for (int i = 0; i < kRequests; ++i) {
      lro::Operation operation;
      EXPECT_RPC_OK(live_.Call(method, request, &operation));
      names.push_back(operation.name());
    }
    return names;
  }
  // Everything that one watcher of each operation sees.
  std::vector<std::vector<lro::Operation>> WatchAll(const std::vector<std::string>& names) {
    std::vector<std::vector<lro::Operation>> seen(names.size());
    std::vector<std::thread> watchers;
    for (size_t i = 0; i < names.size(); ++i) {
      watchers.emplace_back([&, i] { seen[i] = live_.Watch(names[i]); });
    }
    for (std::thread& watcher : watchers) watcher.join();
    return seen;
  }
  // How much of its work it shows; -1 when it has ended.
  int64_t Done(const std::string& name) {
    const lro::Operation now = live_.GetOperation(name);
    return now.done() ? -1 : MetadataOf(now).progress().done();
  }
  v1::CreateExpertRequest ExpertThatTakesLong() {
    v1::CreateExpertRequest request = EnglishRequest();
    request.mutable_spec()->add_evaluation_corpora(
        live_.Upload({{"language", "en"}}, JsonLines(2000, "held out"), v1::EVALUATION).name());
    return request;
  }

  mutable LiveServer live_;
};

// States of one watcher that show the phase, up to the end.
int Shown(const std::vector<lro::Operation>& seen, const std::string& phase) {
  int shown = 0;
  for (const lro::Operation& now : seen) {
    const auto progress = MetadataOf(now).progress();
    shown += progress.phase() == phase && progress.done() > 0 ? 1 : 0;
  }
  return shown;
}

TEST_F(JoinedRequests, ForAProfileAreOnePassWithAsManyStreamsOfProgress) {
  live_.Upload({{"language", "en"}}, JsonLines(2000, "long"));
  const std::vector<std::string> names = Start(&Stub::CreateProfile, ProfileAll());
  const auto seen = WatchAll(names);
  int made = 0;
  double tokens = 0;
  for (const auto& states : seen) {
    EXPECT_GT(Shown(states, "profile"), 1);
    const auto response = ResponseOf<v1::CreateProfileResponse>(states.back());
    ASSERT_EQ(response.profiles_size(), 1);
    made += response.cached_count() == 0 ? 1 : 0;
    tokens = static_cast<double>(response.profiles(0).token_count());
  }
  EXPECT_EQ(made, 1);
  EXPECT_EQ(Metric("secateur_profile_tokens_total"), tokens);
  EXPECT_EQ(Metric("secateur_profile_duration_seconds_count"), 1);
  std::cout << "chaos: joined profiles, " << kRequests << " requests, " << made << " passes\n";
}

TEST_F(JoinedRequests, ForAnExpertAreOneBuildWithAsManyStreamsOfProgress) {
  live_.Upload({{"language", "en"}}, JsonLines(5, "laws"));
  live_.ProfileAll();
  const std::vector<std::string> names = Start(&Stub::CreateExpert, ExpertThatTakesLong());
  const auto seen = WatchAll(names);
  std::vector<std::string> experts;
  double bytes = 0;
  int working = 0;
  for (const auto& states : seen) {
    working += Shown(states, "evaluate") > 0 ? 1 : 0;
    // The others see the steps of the build that they have joined.
    EXPECT_GT(Shown(states, "evaluate") + Shown(states, "build"), 0);
    const auto expert = ResponseOf<v1::Expert>(states.back());
    experts.push_back(expert.name());
    bytes = 0;
    for (const v1::ExpertFile& file : expert.files()) {
      if (file.name() != "secateur.json") bytes += static_cast<double>(file.size_bytes());
    }
  }
  EXPECT_EQ(working, 1);
  EXPECT_THAT(experts, Each(experts[0]));
  EXPECT_EQ(Metric("secateur_expert_bytes_written_total"), bytes);
  EXPECT_EQ(Metric("secateur_expert_cache_hits_total"), kRequests - 1);
  std::cout << "chaos: joined experts, " << kRequests << " requests, 1 builds\n";
}

// Also the one that works: another takes its place.
TEST_F(JoinedRequests, GoOnWhenSomeOfThemAreCancelled) {
  live_.Upload({{"language", "en"}}, JsonLines(4000, "long"));
  const std::vector<std::string> names = Start(&Stub::CreateProfile, ProfileAll());
  for (const std::string& name : names) {
    ASSERT_TRUE(live_.HasProgress(name, "profile")) << name;
  }
  for (const size_t i : {0, 3}) ASSERT_RPC_OK(live_.Cancel(names[i]));
  for (const size_t i : {0, 3}) {
    EXPECT_EQ(live_.Wait(live_.GetOperation(names[i])).error().code(), grpc::CANCELLED) << i;
  }
  const int64_t then = Done(names[1]);
  ASSERT_TRUE(Eventually([&] { return Done(names[1]) != then; }));
  for (const size_t i : {1, 2, 4, 5}) {
    const lro::Operation done = live_.Wait(live_.GetOperation(names[i]));
    EXPECT_THAT(ResponseOf<v1::CreateProfileResponse>(done).profiles(), SizeIs(1)) << i;
  }
  EXPECT_EQ(Metric("secateur_profile_duration_seconds_count"), 1);
}

}  // namespace
}  // namespace secateur
