#include "server/metrics/metrics.h"

#include <cmath>
#include <ctime>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace secateur {
namespace {

using ::testing::HasSubstr;

void CountEverything(Metrics& metrics) {
  metrics.CountRpc("PlanExpert", absl::StatusCode::kInvalidArgument, 0.002);
  metrics.OperationStarted("create_expert");
  metrics.OperationStarted("create_expert");
  metrics.OperationPhaseEnded("create_expert", "verify", 2);
  metrics.OperationEnded("create_expert", "succeeded", 3);
  metrics.OperationRefused("create_expert", "QUEUE_FULL");
  metrics.CountStore("read", absl::StatusCode::kNotFound, 0.001);
  metrics.CountStoreBytes("read", 1000);
  metrics.SetModelResidentBytes("base", 1000);
  metrics.CountCorruptObject("profile");
}

// The value of a sample, NaN if it is not there.
double Sample(const std::string& scraped, const std::string& name) {
  const size_t at = ("\n" + scraped).find("\n" + name + " ");
  return at == std::string::npos ? std::nan("") : std::stod(scraped.substr(at + name.size() + 1));
}

TEST(Metrics, HasEachMetricOfTheServiceWithItsTypeAndHelp) {
  const std::pair<const char*, const char*> expected[] = {
      {"secateur_rpc_requests_total", "counter"},
      {"secateur_rpc_duration_seconds", "histogram"},
      {"secateur_operations_total", "counter"},
      {"secateur_operation_duration_seconds", "histogram"},
      {"secateur_operation_phase_duration_seconds", "histogram"},
      {"secateur_operations_active", "gauge"},
      {"secateur_operations_adopted_total", "counter"},
      {"secateur_operations_refused_total", "counter"},
      {"secateur_reserved_memory_bytes", "gauge"},
      {"secateur_reserved_disk_bytes", "gauge"},
      {"secateur_job_queue_length", "gauge"},
      {"secateur_job_queue_wait_seconds", "histogram"},
      {"secateur_profile_tokens_total", "counter"},
      {"secateur_profile_duration_seconds", "histogram"},
      {"secateur_compose_duration_seconds", "histogram"},
      {"secateur_expert_bytes_written_total", "counter"},
      {"secateur_expert_cache_hits_total", "counter"},
      {"secateur_profile_cache_hits_total", "counter"},
      {"secateur_store_requests_total", "counter"},
      {"secateur_store_duration_seconds", "histogram"},
      {"secateur_store_bytes_total", "counter"},
      {"secateur_store_hanging_calls", "gauge"},
      {"secateur_model_load_duration_seconds", "histogram"},
      {"secateur_model_resident_bytes", "gauge"},
      {"secateur_build_info", "gauge"},
      {"secateur_corrupt_objects_total", "counter"},
      {"process_start_time_seconds", "gauge"},
      {"process_resident_memory_bytes", "gauge"},
  };
  Metrics metrics("1.2.3");
  CountEverything(metrics);
  const std::string scraped = metrics.Scrape();
  std::set<std::string> types;
  std::istringstream lines(scraped);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) types.insert(line);
  }
  for (const auto& [name, type] : expected) {
    EXPECT_EQ(types.erase(std::string("# TYPE ") + name + " " + type), 1u) << name;
    EXPECT_THAT(scraped, HasSubstr(std::string("# HELP ") + name + " "));
  }
  EXPECT_THAT(types, testing::IsEmpty()) << "not in the list above";
}

TEST(Metrics, CountsWithLabels) {
  Metrics metrics("1.2.3");
  CountEverything(metrics);
  const std::string scraped = metrics.Scrape();
  EXPECT_EQ(Sample(scraped,
                   "secateur_rpc_requests_total{code=\"INVALID_ARGUMENT\",method=\"PlanExpert\"}"),
            1);
  EXPECT_EQ(Sample(scraped, "secateur_rpc_duration_seconds_count{method=\"PlanExpert\"}"), 1);
  EXPECT_EQ(
      Sample(scraped, "secateur_rpc_duration_seconds_bucket{method=\"PlanExpert\",le=\"0.001\"}"),
      0);
  EXPECT_EQ(
      Sample(scraped, "secateur_rpc_duration_seconds_bucket{method=\"PlanExpert\",le=\"0.0025\"}"),
      1);
  EXPECT_EQ(
      Sample(scraped, "secateur_operations_total{state=\"succeeded\",type=\"create_expert\"}"), 1);
  EXPECT_EQ(Sample(scraped, "secateur_operations_active{type=\"create_expert\"}"), 1);
  EXPECT_EQ(Sample(scraped, "secateur_operation_duration_seconds_sum{type=\"create_expert\"}"), 3);
  EXPECT_EQ(
      Sample(
          scraped,
          "secateur_operation_phase_duration_seconds_sum{phase=\"verify\",type=\"create_expert\"}"),
      2);
  EXPECT_EQ(Sample(scraped, "secateur_store_requests_total{code=\"NOT_FOUND\",operation=\"read\"}"),
            1);
  EXPECT_EQ(Sample(scraped, "secateur_store_bytes_total{direction=\"read\"}"), 1000);
  EXPECT_EQ(Sample(scraped, "secateur_model_resident_bytes{model=\"base\"}"), 1000);
  EXPECT_EQ(Sample(scraped, "secateur_corrupt_objects_total{kind=\"profile\"}"), 1);
  EXPECT_EQ(Sample(scraped, "secateur_build_info{version=\"1.2.3\"}"), 1);
}

TEST(Metrics, ShowsWhatHasNoLabelsFromTheStart) {
  Metrics metrics("1.2.3");
  EXPECT_EQ(Sample(metrics.Scrape(), "secateur_profile_tokens_total"), 0);
  EXPECT_EQ(Sample(metrics.Scrape(), "secateur_compose_duration_seconds_count"), 0);
  metrics.profile_tokens.Increment(512);
  metrics.compose_duration.Observe(0.01);
  metrics.job_queue_length.Set(3);
  EXPECT_EQ(Sample(metrics.Scrape(), "secateur_profile_tokens_total"), 512);
  EXPECT_EQ(Sample(metrics.Scrape(), "secateur_compose_duration_seconds_count"), 1);
  EXPECT_EQ(Sample(metrics.Scrape(), "secateur_job_queue_length"), 3);
}

TEST(Metrics, KnowsTheProcess) {
  Metrics metrics("1.2.3");
  const double now = static_cast<double>(std::time(nullptr));
  const double started = Sample(metrics.Scrape(), "process_start_time_seconds");
  EXPECT_LE(started, now + 2);
  EXPECT_GE(started, now - 24 * 3600);  // this test program is not a day old
  const double before = Sample(metrics.Scrape(), "process_resident_memory_bytes");
  EXPECT_GT(before, 1 << 20);
  const std::vector<char> more(64 << 20, 'x');
  EXPECT_GE(Sample(metrics.Scrape(), "process_resident_memory_bytes"), before + (60 << 20))
      << more[1];
}

TEST(Metrics, KeepsLabelValuesOnTheirLine) {
  Metrics metrics("1.2.3");
  metrics.SetModelResidentBytes("a\"b\\c\nd", 7);
  EXPECT_THAT(metrics.Scrape(),
              HasSubstr("secateur_model_resident_bytes{model=\"a\\\"b\\\\c\\nd\"} 7\n"));
}

TEST(Metrics, CountsFromManyThreads) {
  Metrics metrics("1.2.3");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        metrics.CountRpc("PlanExpert",
                         i % 2 == 0 ? absl::StatusCode::kOk : absl::StatusCode::kAborted, 0.1);
        if (i % 100 == 0) metrics.Scrape();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string scraped = metrics.Scrape();
  EXPECT_EQ(Sample(scraped, "secateur_rpc_requests_total{code=\"OK\",method=\"PlanExpert\"}"),
            2000);
  EXPECT_EQ(Sample(scraped, "secateur_rpc_duration_seconds_count{method=\"PlanExpert\"}"), 4000);
}

}  // namespace
}  // namespace secateur
