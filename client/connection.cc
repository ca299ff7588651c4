#include "client/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/read_file.h"

namespace secateur {
namespace {

// Asking these again does no harm whatever became of the first try: they change nothing, or start
// an operation under a request_id.
constexpr const char* kSafeMethods[] = {
    "GetModel",     "ListModels",     "GetCorpus",    "ListCorpora",       "GetProfile",
    "ListProfiles", "ListDimensions", "GetExpert",    "ListExperts",       "PlanExpert",
    "CreateCorpus", "CreateProfile",  "CreateExpert", "CompareDimensions", "EvaluateExpert"};
constexpr const char* kSafeOperationMethods[] = {"GetOperation", "ListOperations", "WaitOperation"};

// gRPC's server says CANCELLED of a call that reaches it while it ends, which no handler has seen.
std::string ServiceConfig() {
  std::vector<std::string> names;
  for (const char* method : kSafeMethods) {
    names.push_back(absl::StrCat(R"({"service":"secateur.v1.Secateur","method":")", method, "\"}"));
  }
  for (const char* method : kSafeOperationMethods) {
    names.push_back(
        absl::StrCat(R"({"service":"google.longrunning.Operations","method":")", method, "\"}"));
  }
  return absl::StrCat(R"({"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[)",
                      absl::StrJoin(names, ","),
                      R"(],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.4s",)"
                      R"("maxBackoff":"2s","backoffMultiplier":2,)"
                      R"("retryableStatusCodes":["UNAVAILABLE","CANCELLED"]}}]})");
}

absl::StatusOr<std::string> ReadPem(const std::string& what, const std::string& path) {
  auto text = ReadSmallFile(what, path);
  if (text.ok() && !absl::StrContains(*text, "-----BEGIN ")) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " ", path, " holds no PEM block (-----BEGIN ...)"));
  }
  return text;
}

absl::StatusOr<grpc::SslCredentialsOptions> ReadTlsFiles(const ClientOptions& options) {
  if (options.cert_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError(
        "cert_file and key_file go together: one is given, the other is missing");
  }
  grpc::SslCredentialsOptions tls;
  auto ca = ReadPem("ca_file", options.ca_file);
  if (!ca.ok()) return ca.status();
  tls.pem_root_certs = *std::move(ca);
  if (options.cert_file.empty()) return tls;
  auto cert = ReadPem("cert_file", options.cert_file);
  if (!cert.ok()) return cert.status();
  auto key = ReadPem("key_file", options.key_file);
  if (!key.ok()) return key.status();
  tls.pem_cert_chain = *std::move(cert);
  tls.pem_private_key = *std::move(key);
  return tls;
}

bool IsThisMachine(const std::string& address) {
  for (const char* prefix : {"localhost:", "127.0.0.1:", "[::1]:", "unix:"}) {
    if (absl::StartsWith(address, prefix)) return true;
  }
  return address == "localhost";
}

absl::Status CheckOptions(const ClientOptions& options) {
  if (options.address.empty()) {
    return absl::InvalidArgumentError("address is empty; give host:port, such as localhost:8470");
  }
  if (options.deadline <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "deadline is ", absl::FormatDuration(options.deadline), "; it must be above 0"));
  }
  // gRPC aborts the process on metadata with other bytes.
  const bool printable = std::all_of(options.token.begin(), options.token.end(),
                                     [](char c) { return c > ' ' && c <= '~'; });
  if (!printable) {
    return absl::InvalidArgumentError("token holds a byte that is not printable ASCII");
  }
  if (!options.ca_file.empty()) return absl::OkStatus();
  if (!options.cert_file.empty() || !options.key_file.empty()) {
    return absl::InvalidArgumentError("cert_file and key_file need ca_file, which turns TLS on");
  }
  if (!options.token.empty() && !IsThisMachine(options.address)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the token would cross the network to ", options.address, " in plain text; give ca_file"));
  }
  return absl::OkStatus();
}

}  // namespace

void ClientConnection::Prepare(grpc::ClientContext& context, absl::Duration limit) const {
  Prepare(context, absl::Now() + limit);
}

void ClientConnection::Prepare(grpc::ClientContext& context, absl::Time deadline) const {
  if (deadline < absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
  if (!options.token.empty()) context.AddMetadata("authorization", "Bearer " + options.token);
}

absl::StatusOr<std::shared_ptr<ClientConnection>> OpenConnection(const ClientOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!options.ca_file.empty()) {
    const auto tls = ReadTlsFiles(options);
    if (!tls.ok()) return tls.status();
    credentials = grpc::SslCredentials(*tls);
  }
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(ServiceConfig());
  // A server that was restarted is found again before the next one goes.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetUserAgentPrefix("secateur-client");
  const auto channel = grpc::CreateCustomChannel(options.address, credentials, arguments);
  auto connection = std::make_shared<ClientConnection>();
  connection->secateur = v1::Secateur::NewStub(channel);
  connection->operations = google::longrunning::Operations::NewStub(channel);
  connection->options = options;
  return connection;
}

}  // namespace secateur
