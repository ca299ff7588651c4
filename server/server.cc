#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "grpc/health/v1/health.pb.h"
#include "server/base/log.h"
#include "server/base/machine_memory.h"
#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/ticker.h"
#include "server/jobs/job_queue.h"
#include "server/mask/budget.h"
#include "server/metrics/exposer.h"
#include "server/model/compute_threads.h"
#include "server/object_storage/arrow_store.h"
#include "server/object_storage/open_store.h"
#include "server/security/tls.h"
#include "server/service/needs.h"
#include "server/service/operations_service.h"
#include "server/service/secateur_service.h"
#include "server/service/submit.h"
#include "server/storage/disk_room.h"
#include "server/storage/file_uri.h"
#include "server/storage/metered_store.h"

namespace secateur {
namespace {

// Everything lives under a tenant from the first day.
constexpr char kTenantRoot[] = "tenants/default";
constexpr int kCallThreads = 4;
constexpr int kMaxPendingCalls = 1024;
// Of measured texts in temporary files: some ten selections of a model of 135M parameters.
constexpr int64_t kMeasuredDiskBytes = int64_t{8} << 30;
constexpr std::chrono::milliseconds kLoadCheckEvery(50);
constexpr std::chrono::seconds kStoreCheckEvery(5);
// What other servers on the store have stored is known within that time.
constexpr std::chrono::seconds kCatchUpEvery(10);
// For each answer of a bucket once the drain time is over.
constexpr absl::Duration kHurry = absl::Seconds(1);
// After the drain, streams may deliver the last states.
constexpr std::chrono::seconds kStreamGrace(5);
constexpr const char* kServices[] = {"", "secateur.v1.Secateur", "google.longrunning.Operations"};

// What one client can take: messages, streams of a connection, memory of all connections together.
// Peers that are gone without a word are found by pings; connections end after a while, so that
// clients behind a balancer find new servers, and streams have an hour more to come to their end.
void SetLimits(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(4 << 20);
  builder.SetResourceQuota(grpc::ResourceQuota("secateurd").Resize(size_t{512} << 20));
  const std::pair<const char*, int> arguments[] = {
      {GRPC_ARG_MAX_CONCURRENT_STREAMS, 2048},
      {GRPC_ARG_MAX_METADATA_SIZE, 16 << 10},
      {GRPC_ARG_KEEPALIVE_TIME_MS, 60'000},
      {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000},
      {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
      {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000},
      {GRPC_ARG_MAX_CONNECTION_AGE_MS, 30 * 60'000},
      {GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, 60 * 60'000},
  };
  for (const auto& [name, value] : arguments) builder.AddChannelArgument(name, value);
}

std::map<std::string, JobFactory> MakeFactories(const JobParts& parts) {
  return {
      {"CreateCorpus", [parts](const OperationRequest& r) { return MakeCorpusJob(parts, r); }},
      {"CreateProfile", [parts](const OperationRequest& r) { return MakeProfileJob(parts, r); }},
      {"CreateExpert", [parts](const OperationRequest& r) { return MakeExpertJob(parts, r); }},
      {"EvaluateExpert",
       [parts](const OperationRequest& r) { return MakeEvaluationJob(parts, r); }},
  };
}

}  // namespace

// Declared in the order in which they are built; destroyed in the opposite one.
struct Server::Parts {
  explicit Parts(const ServerOptions& o)
      : options(o),
        metrics(SECATEUR_VERSION),
        models(metrics),
        views(o.view_cache_bytes),
        measured(kMeasuredDiskBytes) {}

  absl::Status Build();
  absl::Status OpenStores();
  absl::Status BuildServices();
  // What operations may take; 0: any.
  int64_t MemoryForWork() const;
  DiskRoom DiskForWork();
  // Makes known what other servers on the store have stored.
  void CatchUp();
  // Removes experts that have come to their end.
  void DeleteExpired();
  absl::Status Listen();
  absl::Status StartExposer();
  void Monitor();
  // Until then work has the drain time, and a store that hangs its own; after it neither.
  void HurryAfterDrain();
  std::pair<bool, std::string> Ready();
  bool Healthy();  // what gRPC's health says
  std::pair<bool, std::string> Probe(std::string_view probe);

  const ServerOptions options;
  Metrics metrics;
  // Of the server's store, and of those that requests name.
  const StoreOptions store_options{
      .stall_limit = options.store_stall,
      .on_abandoned = [this](int change) { metrics.store_hanging_calls.Increment(change); }};
  // The tenant's objects; and what the server knows about its base models, which are nobody's.
  std::unique_ptr<BlobStore> blobs, own_blobs;
  std::optional<UriAllowList> readable, writable;
  ResidentModels models;
  std::optional<CorpusStore> corpora;
  std::optional<ProfileStore> profiles;
  std::optional<ExpertStore> experts;
  LruCache<RelevanceView> views;
  LruCache<MeasuredText> measured;
  SingleFlight single_flight;
  std::optional<JobQueue> jobs;
  std::optional<SecateurService> service;
  std::optional<OperationsService> operations_service;
  // Ends before what calls use: one whose client has gone may still be at work when gRPC has ended.
  std::optional<CallRunner> calls;
  std::unique_ptr<grpc::Server> grpc_server;
  std::unique_ptr<Exposer> exposer;
  int port = 0;
  std::once_flag disk_unknown;

  Mutex mutex;
  CondVar changed;
  bool draining ABSL_GUARDED_BY(mutex) = false;
  bool drained ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  bool healthy ABSL_GUARDED_BY(mutex) = false;
  absl::Status store_status ABSL_GUARDED_BY(mutex);
  std::thread monitor;
  std::unique_ptr<Ticker> catch_up;
};

absl::Status Server::Parts::Build() {
  RETURN_IF_ERROR(CheckOptions(options));
  const auto device = Device::Parse(options.device);
  if (!device.ok()) return Annotate(device.status(), "--device");
  SetComputeThreads(options.threads);
  RETURN_IF_ERROR(OpenStores());
  RETURN_IF_ERROR(models.Start(options.models, *device, *own_blobs));
  RETURN_IF_ERROR(BuildServices());
  RETURN_IF_ERROR(Listen());
  RETURN_IF_ERROR(StartExposer());
  monitor = std::thread([this] { Monitor(); });
  catch_up = std::make_unique<Ticker>(kCatchUpEvery, [this] {
    CatchUp();
    DeleteExpired();
  });
  return absl::OkStatus();
}

absl::Status Server::Parts::OpenStores() {
  StoreOptions ours = store_options;
  ours.remove_leftovers = true;
  auto opened = OpenStore(UriBelow(options.store, kTenantRoot), ours);
  if (!opened.ok()) return Annotate(opened.status(), "--store");
  blobs = std::make_unique<MeteredStore>(*std::move(opened), metrics);
  auto own = OpenStore(options.store, ours);
  if (!own.ok()) return Annotate(own.status(), "--store");
  own_blobs = *std::move(own);
  RETURN_IF_ERROR(Annotate(blobs->Check(), "--store"));
  auto read = UriAllowList::Create(options.allow_read);
  if (!read.ok()) return Annotate(read.status(), "--allow-read");
  readable = *std::move(read);
  auto write = UriAllowList::Create(options.allow_write);
  if (!write.ok()) return Annotate(write.status(), "--allow-write");
  writable = *std::move(write);
  corpora.emplace(*blobs, Clock::System());
  profiles.emplace(*blobs, metrics);
  experts.emplace(*blobs);
  RETURN_IF_ERROR(corpora->Load());
  RETURN_IF_ERROR(profiles->Load());
  return experts->Load();
}

absl::Status Server::Parts::BuildServices() {
  const Stores stores{*blobs,   *corpora,      *profiles, *experts,     views,
                      measured, single_flight, metrics,   store_options};
  const JobParts parts{models, stores, *readable, *writable};
  calls.emplace(kCallThreads, kMaxPendingCalls, metrics);
  jobs.emplace(JobQueue::Options{.workers = options.workers,
                                 .max_queued = options.max_queued_operations,
                                 .max_per_tenant = options.max_operations_per_tenant,
                                 .max_memory_bytes = MemoryForWork(),
                                 .disk = [this] { return DiskForWork(); },
                                 .needs = [parts](const auto& r) { return NeedsOf(parts, r); },
                                 .tenant = kTenantRoot,
                                 .max_queue_time = options.max_queue_time > absl::ZeroDuration()
                                                       ? options.max_queue_time
                                                       : absl::InfiniteDuration(),
                                 .keep_done = options.keep_operations,
                                 .max_operations = options.max_operations,
                                 .lease = options.lease,
                                 .before_adopted = [this] { CatchUp(); },
                                 .admit = [this] { return blobs->CheckRoom(); }},
               MakeFactories(parts), *blobs, Clock::System(), metrics);
  RETURN_IF_ERROR(Annotate(jobs->Restore(), "operations of the store"));
  service.emplace(ServiceParts{parts, *jobs, *calls});
  operations_service.emplace(*jobs, *calls);
  return absl::OkStatus();
}

int64_t Server::Parts::MemoryForWork() const {
  if (options.max_reserved_memory_bytes > 0) return options.max_reserved_memory_bytes;
  const auto device = Device::Parse(options.device);
  if (!device.ok() || device->name != "cpu") return 0;
  const int64_t all = MachineMemory();
  int64_t left = all - options.view_cache_bytes;
  for (const ResidentModels::State& model : models.List()) {
    const ModelConfig& config = model.folder->config();
    left -= SizeAtWidth(config, config.intermediate_size, sizeof(float)).bytes;
  }
  return std::max(left, all / 2);  // the cache may never fill
}

DiskRoom Server::Parts::DiskForWork() {
  if (const int64_t most = options.max_reserved_disk_bytes; most > 0) return {most, most};
  if (UriScheme(options.store) != "file") return {};
  const absl::StatusOr<DiskRoom> room = DiskRoomOf(options.store);
  if (room.ok()) return *room;
  std::call_once(disk_unknown, [&room] {
    Log(LogLevel::kWarning,
        "what is free on the store's disk is not known: work has no limit of it",
        {{"error", room.status().ToString()}});
  });
  return {};
}

void Server::Parts::CatchUp() {
  for (const absl::Status& status : {corpora->Refresh(), profiles->Load(), experts->Load()}) {
    if (status.ok()) continue;
    Log(LogLevel::kWarning, "what other servers stored could not be read",
        {{"error", status.ToString()}});
  }
}

void Server::Parts::DeleteExpired() {
  const absl::Status status = experts->DeleteExpired(jobs->StoreTime());
  if (status.ok()) return;
  Log(LogLevel::kWarning, "experts that have ended could not be removed",
      {{"error", status.ToString()}});
}

absl::Status Server::Parts::Listen() {
  ASSIGN_OR_RETURN(const auto credentials,
                   MakeServerCredentials({.cert_file = options.tls_cert,
                                          .key_file = options.tls_key,
                                          .client_ca_file = options.tls_client_ca}));
  grpc::EnableDefaultHealthCheckService(true);
  // gRPC's health service does not bring its description along, which reflection is asked for.
  google::protobuf::LinkMessageReflection<grpc::health::v1::HealthCheckRequest>();
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.listen, credentials, &port);
  builder.RegisterService(&*service);
  builder.RegisterService(&*operations_service);
  // A second server on the same port would otherwise share it in silence.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  SetLimits(builder);
  grpc_server = builder.BuildAndStart();
  if (grpc_server == nullptr || port == 0) {
    return absl::UnavailableError(
        StrCat("--listen ", options.listen, " cannot be bound: is the port taken?"));
  }
  for (const char* name : kServices) {
    grpc_server->GetHealthCheckService()->SetServingStatus(name, false);
  }
  return absl::OkStatus();
}

absl::Status Server::Parts::StartExposer() {
  auto started = Exposer::Start(options.metrics, metrics,
                                [this](std::string_view probe) { return Probe(probe); });
  if (!started.ok()) return Annotate(started.status(), "--metrics");
  exposer = *std::move(started);
  return absl::OkStatus();
}

std::pair<bool, std::string> Server::Parts::Ready() {
  if (!models.ready()) return {false, "models are being loaded"};
  MutexLock lock(mutex);
  if (draining) return {false, "draining"};
  if (!store_status.ok()) return {false, "store: " + std::string(store_status.message())};
  return {true, "ok"};
}

bool Server::Parts::Healthy() {
  MutexLock lock(mutex);
  return healthy;
}

std::pair<bool, std::string> Server::Parts::Probe(std::string_view probe) {
  if (probe == "livez") return {true, "ok"};
  if (probe == "startupz") return {models.ready(), "models are being loaded"};
  std::pair<bool, std::string> ready = Ready();
  // Who reads both must not be told first here that it is ready.
  if (ready.first && !Healthy()) return {false, "starting"};
  return ready;
}

void Server::Parts::HurryAfterDrain() {
  const absl::Time deadline = absl::Now() + options.drain;
  {
    MutexLock lock(mutex);
    for (auto left = options.drain; !drained && left > absl::ZeroDuration();
         left = deadline - absl::Now()) {
      changed.WaitFor(mutex, absl::ToChronoMilliseconds(left) + std::chrono::milliseconds(1));
    }
  }
  HurryObjectStorage(kHurry);
}

// Keeps gRPC's health in step with what is true.
void Server::Parts::Monitor() {
  bool resumed = false;
  while (true) {
    const absl::Status store = blobs->Check();
    {
      MutexLock lock(mutex);
      if (draining || stopping) return;
      store_status = store;
    }
    // What an earlier process left needs its models.
    if (models.ready() && !std::exchange(resumed, true)) jobs->Resume();
    const auto [ready, reason] = Ready();
    if (ready != Healthy()) {
      Log(LogLevel::kInfo, ready ? "serving" : "not serving",
          {{"port", port}, {"metrics_port", exposer->port()}, {"reason", reason}});
      MutexLock lock(mutex);
      if (draining) return;  // and said that nothing is served
      for (const char* name : kServices) {
        grpc_server->GetHealthCheckService()->SetServingStatus(name, ready);
      }
      healthy = ready;
    }
    MutexLock lock(mutex);
    if (draining || stopping) return;
    if (models.ready()) {
      changed.WaitFor(mutex, kStoreCheckEvery);
    } else {
      changed.WaitFor(mutex, kLoadCheckEvery);
    }
  }
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  std::unique_ptr<Server> server(new Server(std::make_unique<Parts>(options)));
  RETURN_IF_ERROR(server->parts_->Build());
  Log(LogLevel::kInfo, "listening",
      {{"version", SECATEUR_VERSION},
       {"port", server->port()},
       {"metrics_port", server->metrics_port()},
       {"store", server->parts_->blobs->uri()}});
  return server;
}

Server::~Server() {
  {
    MutexLock lock(parts_->mutex);
    parts_->stopping = true;
  }
  parts_->changed.NotifyAll();
  if (parts_->monitor.joinable()) parts_->monitor.join();
  parts_->catch_up.reset();
  if (parts_->jobs) parts_->jobs->Drain(absl::ZeroDuration());
  if (parts_->grpc_server) {
    parts_->grpc_server->Shutdown(std::chrono::system_clock::now() + kStreamGrace);
    parts_->grpc_server->Wait();
  }
}

absl::Status Server::WaitUntilReady() { return parts_->models.WaitUntilReady(); }

void Server::DrainAndStop() {
  {
    MutexLock lock(parts_->mutex);
    parts_->draining = true;
    parts_->grpc_server->GetHealthCheckService()->SetServingStatus(false);
  }
  parts_->changed.NotifyAll();
  parts_->models.StopLoading();
  Log(LogLevel::kInfo, "draining", {{"seconds", absl::ToDoubleSeconds(parts_->options.drain)}});
  std::thread hurry([this] { parts_->HurryAfterDrain(); });
  parts_->jobs->Drain(parts_->options.drain);
  {
    MutexLock lock(parts_->mutex);
    parts_->drained = true;
  }
  parts_->changed.NotifyAll();
  hurry.join();
  parts_->monitor.join();
  parts_->catch_up.reset();
  parts_->grpc_server->Shutdown(std::chrono::system_clock::now() + kStreamGrace);
  parts_->grpc_server->Wait();
  Log(LogLevel::kInfo, "stopped");
}

int Server::port() const { return parts_->port; }
int Server::metrics_port() const { return parts_->exposer->port(); }

}  // namespace secateur
