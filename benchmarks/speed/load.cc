// Many clients of one server, each on a connection of its own with one call under way at any time.
//
//   secateur_load serve                                    a hello-world server; prints its port
//   secateur_load ADDRESS METHOD CLIENTS SECONDS < REQUEST one JSON object: calls, failures, p50
//   and
//                                                          p99 in milliseconds, calls a second
//
// METHOD is "/package.Service/Method", REQUEST a serialized message. Any unary method of any server
// can be asked, so that two servers are measured by the same tool.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <iterator>
#include <latch>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "greeter.grpc.pb.h"

namespace secateur {
namespace {

using std::chrono::steady_clock;

class Greeter final : public helloworld::Greeter::CallbackService {
  grpc::ServerUnaryReactor* SayHello(grpc::CallbackServerContext* context,
                                     const helloworld::HelloRequest* request,
                                     helloworld::HelloReply* reply) override {
    reply->set_message("Hello " + request->name());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

int Serve() {
  Greeter greeter;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&greeter);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::cout << port << std::endl;
  server->Wait();
  return 0;
}

// Asks again as soon as it is answered, until `until`. Gone only after `done` was counted down.
class Client {
 public:
  Client(const std::string& address, std::string method, const grpc::ByteBuffer& request,
         std::latch& done)
      : stub_(OwnConnection(address)), method_(std::move(method)), request_(request), done_(done) {}

  void Run(steady_clock::time_point until) {
    until_ = until;
    Call();
  }
  const std::vector<double>& milliseconds() const { return milliseconds_; }
  int failures() const { return failures_; }

 private:
  static std::shared_ptr<grpc::Channel> OwnConnection(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  void Call() {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_wait_for_ready(true);
    response_.Clear();
    started_ = steady_clock::now();
    stub_.UnaryCall(context_.get(), method_, {}, &request_, &response_,
                    [this](const grpc::Status& status) { Answered(status); });
  }
  void Answered(const grpc::Status& status) {
    const steady_clock::time_point now = steady_clock::now();
    // The first call opens the connection.
    if (warm_) {
      milliseconds_.push_back(std::chrono::duration<double, std::milli>(now - started_).count());
    }
    warm_ = true;
    if (!status.ok()) ++failures_;
    if (now < until_) {
      Call();
    } else {
      done_.count_down();
    }
  }

  grpc::GenericStub stub_;
  const std::string method_;
  const grpc::ByteBuffer request_;
  std::latch& done_;
  steady_clock::time_point until_, started_;
  std::unique_ptr<grpc::ClientContext> context_;
  grpc::ByteBuffer response_;
  std::vector<double> milliseconds_;
  bool warm_ = false;
  int failures_ = 0;
};

void AllowManyConnections() {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

int Load(const std::string& address, const std::string& method, int clients, double seconds) {
  AllowManyConnections();
  const std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  std::latch done(clients);
  std::vector<std::unique_ptr<Client>> all;
  for (int i = 0; i < clients; ++i) {
    all.push_back(std::make_unique<Client>(address, method, request, done));
  }
  const auto until =
      steady_clock::now() + std::chrono::milliseconds(static_cast<int>(seconds * 1e3));
  for (const auto& client : all) client->Run(until);
  done.wait();
  std::vector<double> milliseconds;
  int failures = 0;
  for (const auto& client : all) {
    milliseconds.insert(milliseconds.end(), client->milliseconds().begin(),
                        client->milliseconds().end());
    failures += client->failures();
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  if (milliseconds.empty()) return 1;
  const auto quantile = [&](double q) {
    return milliseconds[static_cast<size_t>(q * static_cast<double>(milliseconds.size() - 1))];
  };
  std::cout << nlohmann::json{{"calls", milliseconds.size()},
                              {"failures", failures},
                              {"p50_ms", quantile(0.5)},
                              {"p99_ms", quantile(0.99)},
                              {"calls_per_second",
                               static_cast<double>(milliseconds.size()) / seconds}}
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace secateur

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "serve") return secateur::Serve();
  if (argc == 5) return secateur::Load(argv[1], argv[2], std::stoi(argv[3]), std::stod(argv[4]));
  std::cerr << "secateur_load serve | secateur_load ADDRESS METHOD CLIENTS SECONDS < REQUEST\n";
  return 2;
}
