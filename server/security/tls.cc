#include "server/security/tls.h"

#include "server/base/mapped_file.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/security/tls_check.h"

namespace secateur {
namespace {

absl::StatusOr<PemFile> Read(const char* flag, const std::string& path, const char* wanted) {
  auto file = MappedFile::Open(path);
  if (!file.ok()) {
    return absl::Status(file.status().code(), StrCat(flag, ": ", file.status().message(),
                                                     "; name a readable PEM file with ", wanted));
  }
  return PemFile{.flag = flag, .path = path, .text = std::string((*file)->bytes())};
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files) {
  if (files.cert_file.empty()) return grpc::InsecureServerCredentials();
  ASSIGN_OR_RETURN(const PemFile cert, Read("--tls-cert", files.cert_file,
                                            "the server's certificate, then its issuers'"));
  ASSIGN_OR_RETURN(const PemFile key,
                   Read("--tls-key", files.key_file, "the certificate's private key"));
  RETURN_IF_ERROR(CheckServerPair(cert, key));
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({.private_key = key.text, .cert_chain = cert.text});
  if (!files.client_ca_file.empty()) {
    ASSIGN_OR_RETURN(const PemFile ca, Read("--tls-client-ca", files.client_ca_file,
                                            "the certificates that sign the clients'"));
    RETURN_IF_ERROR(CheckAuthorities(ca));
    options.pem_root_certs = ca.text;
    options.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(options);
}

}  // namespace secateur
