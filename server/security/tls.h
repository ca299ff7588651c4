// Server credentials from PEM files.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/security/server_credentials.h>

#include "absl/status/statusor.h"

namespace secateur {

struct TlsFiles {
  std::string cert_file, key_file;  // --tls-cert, --tls-key; both empty: plain text
  std::string client_ca_file;       // --tls-client-ca; not empty: clients must show a certificate
                                    // that it signed
};

// Reads the files and checks them as TLS will use them, since gRPC itself reports a bad one as a
// port that cannot be bound. Errors name flag, file and fix: NOT_FOUND, PERMISSION_DENIED ... for a
// file that cannot be read; INVALID_ARGUMENT for one that does not hold what it should, for a key
// of another certificate, and for a key that TLS refuses; FAILED_PRECONDITION for a certificate
// that is not valid now.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files);

}  // namespace secateur
