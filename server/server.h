// The server: builds the parts in order, starts, turns healthy, drains, stops.
//
// States: starting (listening, health NOT_SERVING, models being loaded), serving, draining. Health,
// readiness and the answers to requests all follow from them.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "server/options.h"

namespace secateur {

class Server {
 public:
  // Checks options, models and store, then listens. Loading goes on in the background. Errors name
  // the flag.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);
  // Stops without draining.
  ~Server();

  // OK when all models are ready, CANCELLED when a drain begins before that; the reason when one
  // cannot be loaded.
  absl::Status WaitUntilReady();
  // Health NOT_SERVING first, no new work nor models, running work finishes within
  // `--drain-seconds`, then everything stops. Call once.
  void DrainAndStop();

  int port() const;  // of the service
  int metrics_port() const;

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace secateur
