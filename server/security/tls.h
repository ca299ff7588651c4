// Server credentials from PEM files.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/security/server_credentials.h>

#include "absl/status/statusor.h"

namespace secateur {

struct TlsFiles {
  std::string cert_file, key_file;  // both empty: plain text
  std::string client_ca_file;       // not empty: clients must show a certificate it signed
};

// NOT_FOUND, PERMISSION_DENIED ... for a file that cannot be read, INVALID_ARGUMENT for one that
// holds no PEM block; both name it.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files);

}  // namespace secateur
