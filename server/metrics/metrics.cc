#include "server/metrics/metrics.h"

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

namespace secateur {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// Upper bounds in seconds.
const Buckets& FastBuckets() {  // answers: 0.5 ms to 10 s
  static const Buckets buckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                  0.1,    0.25,  0.5,    1,     2.5,  5,     10};
  return buckets;
}
const Buckets& SlowBuckets() {  // work: 0.1 s to 2 h
  static const Buckets buckets = {0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200};
  return buckets;
}

prometheus::Family<prometheus::Counter>& Counters(prometheus::Registry& registry, const char* name,
                                                  const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
prometheus::Family<prometheus::Gauge>& Gauges(prometheus::Registry& registry, const char* name,
                                              const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}
prometheus::Family<prometheus::Histogram>& Histograms(prometheus::Registry& registry,
                                                      const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double total_pages = 0;
  double resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// Seconds since the epoch at which the machine started, 0 if it does not tell.
double BootTime() {
  std::ifstream stat("/proc/stat");
  for (std::string line; std::getline(stat, line);) {
    if (line.starts_with("btime ")) return std::strtod(line.c_str() + 6, nullptr);
  }
  return 0;
}

double ProcessStartTime() {
  std::ifstream file("/proc/self/stat");
  const std::string stat((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // Field 22, in clock ticks since boot; field 3 follows the last ')', which ends the name.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return BootTime() +
         std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

Metrics::Metrics(std::string_view version)
    : rpc_requests(Counters(registry, "secateur_rpc_requests_total", "Finished RPCs.")),
      rpc_duration(Histograms(registry, "secateur_rpc_duration_seconds", "Time of finished RPCs.")),
      operations(Counters(registry, "secateur_operations_total", "Ended operations.")),
      operation_duration(Histograms(registry, "secateur_operation_duration_seconds",
                                    "Time of ended operations, waiting included.")),
      operation_phase_duration(
          Histograms(registry, "secateur_operation_phase_duration_seconds",
                     "Time of one phase of an operation, from its first report of progress to that "
                     "of the next phase or to the end of the work.")),
      operations_active(
          Gauges(registry, "secateur_operations_active", "Operations that wait or run here.")),
      operations_adopted(Counters(registry, "secateur_operations_adopted_total",
                                  "Operations taken over from a process that is gone.")
                             .Add({})),
      operations_refused(
          Counters(registry, "secateur_operations_refused_total",
                   "Work that was not accepted or not begun in time, by type and reason.")),
      reserved_memory(Gauges(registry, "secateur_reserved_memory_bytes",
                             "Memory that accepted operations may take at most, beside the models.")
                          .Add({})),
      reserved_disk(Gauges(registry, "secateur_reserved_disk_bytes",
                           "Disk that accepted operations may take at most, in the store and in "
                           "temporary files.")
                        .Add({})),
      job_queue_length(
          Gauges(registry, "secateur_job_queue_length", "Jobs that wait for a worker.").Add({})),
      job_queue_wait(Histograms(registry, "secateur_job_queue_wait_seconds",
                                "Time that jobs waited for a worker.")
                         .Add({}, SlowBuckets())),
      profile_tokens(
          Counters(registry, "secateur_profile_tokens_total", "Tokens profiled.").Add({})),
      profile_duration(
          Histograms(registry, "secateur_profile_duration_seconds", "Time to profile one corpus.")
              .Add({}, SlowBuckets())),
      compose_duration(
          Histograms(registry, "secateur_compose_duration_seconds", "Time to compose one mask.")
              .Add({}, FastBuckets())),
      expert_bytes_written(Counters(registry, "secateur_expert_bytes_written_total",
                                    "Bytes of expert models written.")
                               .Add({})),
      expert_cache_hits(Counters(registry, "secateur_expert_cache_hits_total",
                                 "Requests for an expert model that existed already.")
                            .Add({})),
      profile_cache_hits(Counters(registry, "secateur_profile_cache_hits_total",
                                  "Requests for a profile that existed already.")
                             .Add({})),
      store_requests(Counters(registry, "secateur_store_requests_total", "Calls to the store.")),
      store_duration(
          Histograms(registry, "secateur_store_duration_seconds", "Time of calls to the store.")),
      store_bytes(Counters(registry, "secateur_store_bytes_total",
                           "Bytes read from and written to the store.")),
      store_hanging_calls(Gauges(registry, "secateur_store_hanging_calls",
                                 "Calls to a bucket that were given up and have not come back.")
                              .Add({})),
      model_load_duration(Histograms(registry, "secateur_model_load_duration_seconds",
                                     "Time to load one base model.")
                              .Add({}, SlowBuckets())),
      model_resident_bytes(Gauges(registry, "secateur_model_resident_bytes",
                                  "Bytes that a resident base model occupies.")),
      corrupt_objects(Counters(registry, "secateur_corrupt_objects_total",
                               "Stored objects whose bytes do not match their digest.")),
      process_resident_memory_(
          Gauges(registry, "process_resident_memory_bytes", "Resident memory size in bytes.")
              .Add({})) {
  Gauges(registry, "secateur_build_info", "1, labelled with the version of the program.")
      .Add({{"version", std::string(version)}})
      .Set(1);
  Gauges(registry, "process_start_time_seconds",
         "Start time of the process since the epoch in seconds.")
      .Add({})
      .Set(ProcessStartTime());
}

std::string Metrics::Scrape() {
  process_resident_memory_.Set(ResidentBytes());
  return prometheus::TextSerializer().Serialize(registry.Collect());
}

void Metrics::CountRpc(std::string_view method, absl::StatusCode code, double seconds) {
  const std::string name(method);
  rpc_requests.Add({{"method", name}, {"code", CodeName(code)}}).Increment();
  rpc_duration.Add({{"method", name}}, FastBuckets()).Observe(seconds);
}

void Metrics::OperationStarted(std::string_view type) {
  operations_active.Add({{"type", std::string(type)}}).Increment();
}

void Metrics::OperationLeft(std::string_view type) {
  operations_active.Add({{"type", std::string(type)}}).Decrement();
}

void Metrics::OperationRefused(std::string_view type, std::string_view reason) {
  operations_refused
      .Add(
          {{"type", std::string(type)}, {"reason", std::string(reason.empty() ? "STORE" : reason)}})
      .Increment();
}

void Metrics::OperationEnded(std::string_view type, std::string_view state, double seconds) {
  const std::string name(type);
  operations_active.Add({{"type", name}}).Decrement();
  operations.Add({{"type", name}, {"state", std::string(state)}}).Increment();
  operation_duration.Add({{"type", name}}, SlowBuckets()).Observe(seconds);
}

void Metrics::OperationPhaseEnded(std::string_view type, std::string_view phase, double seconds) {
  operation_phase_duration
      .Add({{"type", std::string(type)}, {"phase", std::string(phase)}}, SlowBuckets())
      .Observe(seconds);
}

void Metrics::CountStore(std::string_view operation, absl::StatusCode code, double seconds) {
  const std::string name(operation);
  store_requests.Add({{"operation", name}, {"code", CodeName(code)}}).Increment();
  store_duration.Add({{"operation", name}}, FastBuckets()).Observe(seconds);
}

void Metrics::CountStoreBytes(std::string_view direction, int64_t bytes) {
  store_bytes.Add({{"direction", std::string(direction)}}).Increment(static_cast<double>(bytes));
}

void Metrics::SetModelResidentBytes(std::string_view model, int64_t bytes) {
  model_resident_bytes.Add({{"model", std::string(model)}}).Set(static_cast<double>(bytes));
}

void Metrics::CountCorruptObject(std::string_view kind) {
  corrupt_objects.Add({{"kind", std::string(kind)}}).Increment();
}

}  // namespace secateur
