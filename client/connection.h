// The stubs of one server and what every call to it carries. SecateurClient and the operations it
// returns share one through a shared_ptr; immutable after it is made, so all calls are thread-safe.
// Tests make one of mock stubs (mocks/README.md).
#pragma once

#include <grpcpp/client_context.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/client_options.h"
#include "client/status.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "secateur/v1/secateur.grpc.pb.h"

namespace secateur {

struct ClientConnection {
  std::shared_ptr<v1::Secateur::StubInterface> secateur;
  std::shared_ptr<google::longrunning::Operations::StubInterface> operations;
  ClientOptions options;

  // Adds the token, and the deadline: `limit` from now (absl::InfiniteDuration(): none), or a time.
  void Prepare(grpc::ClientContext& context, absl::Duration limit) const;
  void Prepare(grpc::ClientContext& context, absl::Time deadline) const;
};

// Makes the stubs; connects with the first call. Where the address stands for several servers,
// calls go to them in turn. Calls that change nothing (Get, List, Plan, Wait) and those that start
// an operation are tried again, five times in all, when the server answers UNAVAILABLE or
// ends just then. Errors:
// INVALID_ARGUMENT (an empty address, a deadline that is not above 0, a certificate without its key
// or without `ca_file`, a file that holds no PEM, a token that is not printable ASCII or would
// cross the network in plain text), NOT_FOUND (a file that cannot be read).
absl::StatusOr<std::shared_ptr<ClientConnection>> OpenConnection(const ClientOptions& options);

// One unary call that ends by `deadline`: Unary(c, *c.secateur, &Stub::GetModel, request, time).
template <class Stub, class Request, class Response>
absl::StatusOr<Response> Unary(const ClientConnection& connection, Stub& stub,
                               grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                            Response*),
                               const Request& request, absl::Time deadline) {
  grpc::ClientContext context;
  connection.Prepare(context, deadline);
  Response response;
  absl::Status status = FromGrpcStatus((stub.*method)(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

// The same with the connection's deadline from now.
template <class Stub, class Request, class Response>
absl::StatusOr<Response> Unary(const ClientConnection& connection, Stub& stub,
                               grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                            Response*),
                               const Request& request) {
  return Unary(connection, stub, method, request, absl::Now() + connection.options.deadline);
}

}  // namespace secateur
