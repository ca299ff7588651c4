// Memory over many mixed jobs: what is left of each job after it is done would show as a slope.
//
// 100 jobs by default; SECATEUR_SOAK_JOBS says otherwise (scripts/test --long: 1,000).
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "tests/integration/server_process.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using Stub = v1::Secateur::Stub;

constexpr double kMiB = 1 << 20;
constexpr double kMostGrowth = 32;  // MiB, by the fit over the second half of the jobs

int Jobs() {
  const char* jobs = std::getenv("SECATEUR_SOAK_JOBS");
  return jobs != nullptr ? std::atoi(jobs) : 100;
}

// Of a line through `values` (bytes after each job): its rise from the first to the last, in MiB.
double Growth(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  const double middle = (count - 1) / 2;
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double covariance = 0, variance = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double from_middle = static_cast<double>(i) - middle;
    covariance += from_middle * (values[i] - mean);
    variance += from_middle * from_middle;
  }
  return covariance / variance * (count - 1) / kMiB;
}

class Soak : public testing::Test {
 protected:
  Soak() : server_(dir_, {"--allow-write", "file:" + MakeOut(), "--view-cache-bytes", "1000000"}) {
    server_.Upload(JsonLines(20, "base"));
    EXPECT_TRUE(server_.Wait(server_.StartProfile()).has_response());
    base_ = CorpusNames().at(0);
  }

  std::vector<std::string> CorpusNames() {
    v1::ListCorporaResponse response;
    EXPECT_RPC_OK(server_.Call(&Stub::ListCorpora, v1::ListCorporaRequest(), &response));
    std::vector<std::string> names;
    for (const v1::Corpus& corpus : response.corpora()) names.push_back(corpus.name());
    return names;
  }
  // And their profiles: what is kept on purpose is not to count.
  void DeleteOtherCorpora() {
    for (const std::string& name : CorpusNames()) {
      if (name != base_) {
        EXPECT_RPC_OK(server_.DeleteCorpus(name));
      }
    }
  }

  std::string MakeOut() const {
    std::filesystem::create_directory(dir_.Join("out"));
    return dir_.Join("out");
  }

  v1::CreateExpertRequest ExpertRequest(double ratio) {
    v1::CreateExpertRequest request = EnglishRequest(ratio);
    request.set_cache_policy(v1::REFRESH);
    return request;
  }

  // A profile of new text, an expert, one that is cancelled, and one that fails, in turn.
  void RunJob(int i) {
    lro::Operation operation;
    switch (i % 4) {
      case 0:
        server_.Upload(JsonLines(10, "theme " + std::to_string(i)));
        EXPECT_TRUE(server_.Wait(server_.StartProfile()).has_response());
        DeleteOtherCorpora();
        return;
      case 1:
        ASSERT_RPC_OK(server_.Call(&Stub::CreateExpert, ExpertRequest(0.25), &operation));
        EXPECT_TRUE(server_.Wait(operation.name()).has_response());
        return;
      case 2:
        ASSERT_RPC_OK(server_.Call(&Stub::CreateExpert, ExpertRequest(0.5), &operation));
        EXPECT_RPC_OK(server_.Cancel(operation.name()));
        server_.Wait(operation.name());
        return;
      default:
        // Its folder holds another expert after the first time.
        v1::CreateExpertRequest request = ExpertRequest(i % 8 == 3 ? 0.25 : 0.5);
        request.set_output_uri("file:" + dir_.Join("out"));
        ASSERT_RPC_OK(server_.Call(&Stub::CreateExpert, request, &operation));
        server_.Wait(operation.name());
        return;
    }
  }

  // What the server holds after each of the later half of the jobs.
  template <class Beside>
  std::vector<double> Run(int jobs, Beside beside) {
    std::vector<double> bytes;
    for (int i = 0; i < jobs; ++i) {
      RunJob(i);
      beside(i);
      if (i >= jobs / 2) bytes.push_back(static_cast<double>(server_.ResidentBytes()));
    }
    return bytes;
  }

  const TempDir dir_;
  ServerProcess server_;
  std::string base_;
};

TEST_F(Soak, ManyMixedJobsLeaveNoMemoryBehind) {
  const double growth = Growth(Run(Jobs(), [](int) {}));
  RecordProperty("growth_mib", std::to_string(growth));
  std::cout << "soak: mixed jobs, " << Jobs() << " jobs, " << std::max(0L, std::lround(growth))
            << " MiB of growth\n";
  EXPECT_LT(growth, kMostGrowth) << "MiB over the second half of " << Jobs() << " jobs";
}

// The same with clients that leave streams open: the check sees growth where there is some.
TEST_F(Soak, AServerThatHoldsOnToSomethingIsFound) {
  struct Watcher {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchOperationResponse>> reader;
  };
  server_.Upload(JsonLines(20000, "long"));
  std::vector<std::unique_ptr<Watcher>> watchers;
  const std::string running = server_.StartProfile();
  const auto leave_open = [&](int) {
    v1::WatchOperationRequest request;
    request.set_name(running);
    grpc::ChannelArguments own_connection;
    own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::Secateur::NewStub(
        grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_.port()),
                                  grpc::InsecureChannelCredentials(), own_connection));
    for (int i = 0; i < 250; ++i) {
      watchers.push_back(std::make_unique<Watcher>());
      watchers.back()->reader = stub->WatchOperation(&watchers.back()->context, request);
    }
    EXPECT_FALSE(server_.GetOperation(running).done());
  };
  std::vector<double> bytes;
  for (int i = 0; i < 20; ++i) {
    leave_open(i);
    bytes.push_back(static_cast<double>(server_.ResidentBytes()));
  }
  EXPECT_GT(Growth(bytes), kMostGrowth);
  EXPECT_RPC_OK(server_.Cancel(running));
  for (const auto& watcher : watchers) watcher->context.TryCancel();
}

}  // namespace
}  // namespace secateur
