// Every knob of the server, from flags and environment (SECATEUR_ and the flag's name in capitals).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/log.h"
#include "server/pipeline/resident_models.h"

namespace secateur {

struct ServerOptions {
  // What it serves.
  std::vector<ModelSource> models;         // --model NAME=FOLDER, at least one
  std::string store;                       // --store file:/folder
  std::string listen = "127.0.0.1:8470";   // --listen HOST:PORT; port 0 takes a free one
  std::string metrics = "127.0.0.1:8471";  // --metrics HOST:PORT; plain HTTP

  // Who may reach it, and what requests may touch.
  bool insecure = false;                 // --insecure: plain text beyond loopback
  std::string tls_cert, tls_key;         // --tls-cert, --tls-key: PEM files
  std::string tls_client_ca;             // --tls-client-ca: clients must show a certificate
  std::vector<std::string> allow_read;   // --allow-read file:/folder; none: store only
  std::vector<std::string> allow_write;  // --allow-write file:/folder; none: store only

  // How it runs.
  std::string device = "auto";         // --device auto|cpu|cuda:N
  int threads = 0;                     // --threads of arithmetic; 0: all processors
  int workers = 2;                     // --workers: operations that run at once
  int64_t max_queued_operations = 64;  // --max-queued-operations
  // --max-queue-seconds: what waits longer for a worker ends as FAILED; 0: nothing does.
  absl::Duration max_queue_time = absl::Hours(1);
  int64_t max_operations_per_tenant = 0;  // --max-operations-per-tenant: not done; 0: any number
  // --max-reserved-memory-bytes: of accepted operations while they run; 0: on a CPU what models and
  // view cache leave of the machine's or container's memory, at least half of that; on a GPU
  // any.
  int64_t max_reserved_memory_bytes = 0;
  // --max-reserved-disk-bytes: stored and temporary, of accepted operations; 0: what is free on the
  // store's disk; any in a bucket, and where a disk does not tell.
  int64_t max_reserved_disk_bytes = 0;
  int64_t view_cache_bytes = int64_t{1} << 30;  // --view-cache-bytes: relevance kept in memory
  absl::Duration drain = absl::Seconds(30);     // --drain-seconds: after SIGTERM, for running work
  absl::Duration store_stall = absl::Seconds(60);  // --store-stall-seconds: for a bucket's answer
  // --keep-operations-days: then done operations are forgotten; fractions are allowed.
  absl::Duration keep_operations = absl::Hours(24 * 30);
  int64_t max_operations =
      4096;  // --keep-operations: more, and the oldest that is done is forgotten
  // --lease-seconds: how long a server of this store that says nothing counts as alive; then others
  // go on with its operations.
  absl::Duration lease = absl::Seconds(60);
  LogLevel log_level = LogLevel::kInfo;  // --log-level debug|info|warning|error
};

// What the command line asks for: run the server, or print and leave.
struct CommandLine {
  ServerOptions options;
  bool exit = false;  // --help, --version, or bad usage
  int exit_code = 0;
};

// Parses and prints usage, help and errors itself.
CommandLine ParseCommandLine(int argc, char** argv);

// INVALID_ARGUMENT naming the flag: what can be said without opening anything.
absl::Status CheckOptions(const ServerOptions& options);

}  // namespace secateur
