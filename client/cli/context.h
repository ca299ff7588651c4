// What every command gets: the streams, the global options, and the way to a server. Lives as long
// as RunCli; one thread.
#pragma once

#include <istream>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/table.h"
#include "client/secateur_client.h"
#include "google/protobuf/message.h"

namespace secateur::cli {

struct Context {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  const bool err_is_terminal;

  // Global options; `client.address` is filled from --server or SECATEUR_SERVER.
  ClientOptions client;
  std::string token_file;
  bool json = false;

  // What the command came to; set by the command's callback.
  absl::Status result;
};

// A client with the global options. Errors: as OpenConnection; the token file cannot be read.
absl::StatusOr<SecateurClient> ConnectWith(const Context& context);

// "corpora/c12…" for either "c12…" or "corpora/c12…".
std::string FullName(const std::string& collection, const std::string& name);

// The full name of the model meant: `name` if it is given, else the one model the server has.
// Errors: INVALID_ARGUMENT (the server has several: they are named), FAILED_PRECONDITION (none).
absl::StatusOr<std::string> ResolveModel(const SecateurClient& client, const std::string& name);
// The full name of an expert; a bare id is completed with the one model the server has.
absl::StatusOr<std::string> ResolveExpert(const SecateurClient& client, const std::string& name);

// The proto's own JSON. Errors: INTERNAL (an Any of an unknown type).
absl::Status PrintJson(const google::protobuf::Message& message, Context& context);
// JSON or the table, as the user asked.
absl::Status Print(const google::protobuf::Message& message, const Table& table, Context& context);

}  // namespace secateur::cli
