// Where the server is and how to talk to it. Plain values; copied by the client.
#pragma once

#include <cstdlib>
#include <string>

#include "absl/time/time.h"

namespace secateur {

// The environment variable SECATEUR_SERVER if it is set and not empty, else "localhost:8470".
inline std::string DefaultServerAddress() {
  const char* address = std::getenv("SECATEUR_SERVER");
  return address != nullptr && *address != '\0' ? address : "localhost:8470";
}

struct ClientOptions {
  // "host:port", "[::1]:port", "unix:/path", or several servers on one store:
  // "ipv4:10.0.0.1:8470,10.0.0.2:8470", or a host with several addresses.
  std::string address = DefaultServerAddress();

  // PEM files. With `ca_file` the connection is TLS and the server must show a certificate of that
  // authority; `cert_file` and `key_file`, given together, are shown to the server. Without
  // `ca_file` the connection is plain text.
  std::string ca_file;
  std::string cert_file;
  std::string key_file;

  // Sent as "authorization: Bearer <token>" with every call; none when empty. Refused on a plain
  // text connection to anything but this machine.
  std::string token;

  // Time for one unary call, retries included; above 0. Streams (UploadCorpus, DownloadExpertFile,
  // WatchOperation) take as long as they need; PlanExpert, and CreateExpert with `validate_only`,
  // that trim a vocabulary have ten minutes at least: the first of a selection reads all of its
  // text.
  absl::Duration deadline = absl::Seconds(30);
};

}  // namespace secateur
