// The HTTP listener for machines that watch the service: /metrics for Prometheus, and /livez,
// /readyz and /startupz for Kubernetes, which answer 200 "ok" or 503 with a reason. GET and HEAD
// only, one request a connection, two threads, a request must arrive within two seconds: slow
// clients can delay others that long and no more. Plain HTTP without credentials: bind it where
// only they can reach it.
//
// The destructor stops listening and returns when no callback runs any more; a client in the middle
// of its request can hold it up for two seconds.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "server/metrics/metrics.h"

struct mg_context;
struct mg_connection;

namespace secateur {

class Exposer {
 public:
  // Called with "livez", "readyz" or "startupz", from two threads at a time: whether that holds,
  // and if not, why (one line of text).
  using Probe = std::function<std::pair<bool, std::string>(std::string_view probe)>;

  // `address` is HOST:PORT with a numeric or resolvable host, [HOST]:PORT for IPv6; port 0 takes a
  // free one. INVALID_ARGUMENT for a malformed address, UNAVAILABLE when it cannot be bound,
  // UNIMPLEMENTED for IPv6 where the HTTP library was built without it (as in Debian 12).
  // `metrics` outlives the exposer.
  static absl::StatusOr<std::unique_ptr<Exposer>> Start(const std::string& address,
                                                        Metrics& metrics, Probe probe);
  ~Exposer();
  Exposer(const Exposer&) = delete;
  Exposer& operator=(const Exposer&) = delete;

  // The one bound, also when 0 was asked for.
  int port() const { return port_; }

 private:
  struct Response {
    int status;
    std::string content_type;
    std::string body;
  };

  Exposer(Metrics& metrics, Probe probe) : metrics_(metrics), probe_(std::move(probe)) {}

  absl::Status Listen(const std::string& address);
  static int Handle(mg_connection* connection, void* exposer);
  Response Answer(std::string_view method, std::string_view path);

  Metrics& metrics_;
  const Probe probe_;
  mg_context* context_ = nullptr;
  std::string host_;
  int port_ = 0;
};

}  // namespace secateur
