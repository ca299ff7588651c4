#include "server/options.h"

#include <CLI/CLI.hpp>
#include <map>
#include <set>

#include "server/base/strings.h"
#include "server/service/names.h"

namespace secateur {
namespace {

std::string HostOf(const std::string& address) {
  const size_t colon = address.rfind(':');
  return colon == std::string::npos ? address : address.substr(0, colon);
}

bool IsLoopback(const std::string& address) {
  const std::string host = HostOf(address);
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

// "NAME=FOLDER" to a source, for CLI11's checks.
std::string CheckModel(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || !IsSlug(text.substr(0, equals)) || equals + 1 == text.size()) {
    return "\"" + text + "\" is not NAME=FOLDER, with a name of [a-z0-9] then [a-z0-9._-]";
  }
  return {};
}

std::string CheckAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  int port = -1;
  if (colon != std::string::npos && colon > 0 && absl::SimpleAtoi(text.substr(colon + 1), &port) &&
      port >= 0 && port <= 65535) {
    return {};
  }
  return "\"" + text + "\" is not HOST:PORT";
}

}  // namespace

CommandLine ParseCommandLine(int argc, char** argv) {
  CommandLine line;
  ServerOptions& options = line.options;
  CLI::App app(
      "secateurd keeps a base model in memory and makes experts of it.\n\n"
      "Example:\n"
      "  secateurd --model smollm2=/models/SmolLM2-135M-Instruct --store file:/var/lib/secateur",
      "secateurd");
  std::vector<std::string> models;
  double store_stall_seconds = absl::ToDoubleSeconds(options.store_stall);
  double max_queue_seconds = absl::ToDoubleSeconds(options.max_queue_time);
  double drain_seconds = absl::ToDoubleSeconds(options.drain);
  double keep_days = absl::ToDoubleHours(options.keep_operations) / 24;
  double lease_seconds = absl::ToDoubleSeconds(options.lease);
  app.set_version_flag("--version", std::string("secateurd ") + SECATEUR_VERSION);
  app.add_option("--model", models, "NAME=FOLDER of a Hugging Face model; may be repeated")
      ->required()
      ->check(CheckModel)
      ->envname("SECATEUR_MODEL");
  app.add_option(
         "--store", options.store,
         "where everything is kept: file:/folder, s3://bucket/folder, gs://bucket/folder or "
         "abfs://container@account.dfs.core.windows.net/folder")
      ->required()
      ->envname("SECATEUR_STORE");
  app.add_option("--listen", options.listen, "HOST:PORT of the service; port 0 takes a free one")
      ->check(CheckAddress)
      ->capture_default_str()
      ->envname("SECATEUR_LISTEN");
  app.add_option("--metrics", options.metrics,
                 "HOST:PORT of /metrics, /livez, /readyz, /startupz (plain HTTP)")
      ->check(CheckAddress)
      ->capture_default_str()
      ->envname("SECATEUR_METRICS");
  app.add_flag("--insecure", options.insecure, "serve plain text beyond loopback")
      ->envname("SECATEUR_INSECURE");
  app.add_option("--tls-cert", options.tls_cert, "PEM file with the server's certificate chain")
      ->envname("SECATEUR_TLS_CERT");
  app.add_option("--tls-key", options.tls_key, "PEM file with its key")
      ->envname("SECATEUR_TLS_KEY");
  app.add_option("--tls-client-ca", options.tls_client_ca,
                 "PEM file: clients must show a certificate that it signed")
      ->envname("SECATEUR_TLS_CLIENT_CA");
  app.add_option(
         "--allow-read", options.allow_read,
         "file:/folder, or s3://, gs:// or abfs:// URI with the options that reach it, that "
         "CreateCorpus may read; may be repeated")
      ->envname("SECATEUR_ALLOW_READ");
  app.add_option(
         "--allow-write", options.allow_write,
         "file:/folder, or s3://, gs:// or abfs:// URI with the options that reach it, that "
         "output_uri may name; may be repeated")
      ->envname("SECATEUR_ALLOW_WRITE");
  app.add_option("--device", options.device, "auto, cpu or cuda:N")
      ->capture_default_str()
      ->envname("SECATEUR_DEVICE");
  app.add_option("--threads", options.threads, "threads of arithmetic; 0: all processors")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str()
      ->envname("SECATEUR_THREADS");
  app.add_option("--workers", options.workers, "operations that run at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->envname("SECATEUR_WORKERS");
  app.add_option("--max-queued-operations", options.max_queued_operations,
                 "operations that may wait; more are refused")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->envname("SECATEUR_MAX_QUEUED_OPERATIONS");
  app.add_option(
         "--max-queue-seconds", max_queue_seconds,
         "time that an operation may wait for a worker, then it ends as FAILED; 0: any time")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->envname("SECATEUR_MAX_QUEUE_SECONDS");
  app.add_option("--max-operations-per-tenant", options.max_operations_per_tenant,
                 "operations of one tenant that may wait or run; 0: any number")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->envname("SECATEUR_MAX_OPERATIONS_PER_TENANT");
  app.add_option("--max-reserved-memory-bytes", options.max_reserved_memory_bytes,
                 "memory that accepted operations may take; 0: what models and view cache leave, "
                 "at least half of all; on a GPU any")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->envname("SECATEUR_MAX_RESERVED_MEMORY_BYTES");
  app.add_option("--max-reserved-disk-bytes", options.max_reserved_disk_bytes,
                 "store and temporary files that accepted operations may take; 0: what is free")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->envname("SECATEUR_MAX_RESERVED_DISK_BYTES");
  app.add_option("--view-cache-bytes", options.view_cache_bytes,
                 "bytes of relevance views kept in memory")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->envname("SECATEUR_VIEW_CACHE_BYTES");
  app.add_option("--drain-seconds", drain_seconds, "time that running work has after SIGTERM")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str()
      ->envname("SECATEUR_DRAIN_SECONDS");
  app.add_option("--store-stall-seconds", store_stall_seconds,
                 "time that a bucket has for each request or batch of parts")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str()
      ->envname("SECATEUR_STORE_STALL_SECONDS");
  app.add_option("--keep-operations-days", keep_days,
                 "days after which operations that are done are forgotten")
      ->check(CLI::Range(0.0, 36500.0))
      ->capture_default_str()
      ->envname("SECATEUR_KEEP_OPERATIONS_DAYS");
  app.add_option("--keep-operations", options.max_operations,
                 "operations that are known at most; the oldest that is done is forgotten first")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str()
      ->envname("SECATEUR_KEEP_OPERATIONS");
  app.add_option(
         "--lease-seconds", lease_seconds,
         "time after which other servers on the store go on with the work of one that is silent")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str()
      ->envname("SECATEUR_LEASE_SECONDS");
  const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                  {"info", LogLevel::kInfo},
                                                  {"warning", LogLevel::kWarning},
                                                  {"error", LogLevel::kError}};
  app.add_option("--log-level", options.log_level, "debug, info (default), warning or error")
      ->transform(CLI::CheckedTransformer(levels))
      ->envname("SECATEUR_LOG_LEVEL");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    line.exit = true;
    line.exit_code = app.exit(error) == 0 ? 0 : 2;
    return line;
  }
  for (const std::string& model : models) {
    const size_t equals = model.find('=');
    options.models.push_back({model.substr(0, equals), model.substr(equals + 1)});
  }
  options.store_stall = absl::Seconds(store_stall_seconds);
  options.max_queue_time = absl::Seconds(max_queue_seconds);
  options.drain = absl::Seconds(drain_seconds);
  options.keep_operations = absl::Hours(24 * keep_days);
  options.lease = absl::Seconds(lease_seconds);
  return line;
}

absl::Status CheckOptions(const ServerOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together: give both or none");
  }
  if (!options.tls_client_ca.empty() && options.tls_cert.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca needs --tls-cert and --tls-key");
  }
  const bool tls = !options.tls_cert.empty();
  if (!tls && !options.insecure && !IsLoopback(options.listen)) {
    return absl::InvalidArgumentError(
        StrCat("--listen ", options.listen,
               " is reachable from other machines: give --tls-cert and "
               "--tls-key, or say --insecure to serve plain text there"));
  }
  return absl::OkStatus();
}

}  // namespace secateur
