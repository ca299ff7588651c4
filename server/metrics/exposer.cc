#include "server/metrics/exposer.h"

#include <civetweb.h>

#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

constexpr char kPlainText[] = "text/plain; charset=utf-8";
constexpr char kPrometheusText[] = "text/plain; version=0.0.4; charset=utf-8";

const char* Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

// The listener's own language has lists, TLS suffixes and more; only one plain address goes in.
absl::Status CheckAddress(const std::string& address) {
  if (address.starts_with('[') && mg_check_feature(MG_FEATURES_IPV6) == 0) {
    return absl::UnimplementedError(
        StrCat("the metrics address ", Quoted(address),
               " is IPv6, which the HTTP library was built without; use an IPv4 address"));
  }
  const size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  int port = -1;
  const bool valid = colon != std::string::npos && !host.empty() &&
                     host.find_first_not_of(
                         "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                         "0123456789.-_:[]") == std::string::npos &&
                     address.find_first_not_of("0123456789", colon + 1) == std::string::npos &&
                     absl::SimpleAtoi(address.substr(colon + 1), &port) && port <= 65535;
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("the metrics address ", Quoted(address),
                                           " is not HOST:PORT, for example 127.0.0.1:9464"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Exposer>> Exposer::Start(const std::string& address,
                                                        Metrics& metrics, Probe probe) {
  RETURN_IF_ERROR(CheckAddress(address));
  auto exposer = std::unique_ptr<Exposer>(new Exposer(metrics, std::move(probe)));
  RETURN_IF_ERROR(exposer->Listen(address));
  return exposer;
}

Exposer::~Exposer() {
  if (context_ == nullptr) return;
  // The listener looks whether it should stop every two seconds and with each connection: make
  // some.
  std::atomic<bool> stopped = false;
  std::thread waker([&] {
    std::array<char, 256> error;
    while (!stopped) {
      mg_connection* connection =
          mg_connect_client(host_.c_str(), port_, 0, error.data(), error.size());
      if (connection != nullptr) mg_close_connection(connection);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  mg_stop(context_);
  stopped = true;
  waker.join();
}

absl::Status Exposer::Listen(const std::string& address) {
  static std::once_flag initialized;
  std::call_once(initialized, [] { mg_init_library(MG_FEATURES_DEFAULT); });

  const std::pair<const char*, const char*> settings[] = {{"listening_ports", address.c_str()},
                                                          {"num_threads", "2"},
                                                          {"enable_keep_alive", "no"},
                                                          {"request_timeout_ms", "2000"},
                                                          {"max_request_size", "8192"}};
  std::vector<const char*> options;
  for (const auto& [name, value] : settings) options.insert(options.end(), {name, value});
  options.push_back(nullptr);
  mg_callbacks callbacks{};
  callbacks.log_message = [](const mg_connection*, const char*) { return 1; };  // not on our stderr
  mg_init_data init{&callbacks, this, options.data()};
  std::array<char, 256> text{};
  unsigned code = 0;
  mg_error_data error{&code, text.data(), text.size()};
  context_ = mg_start2(&init, &error);
  mg_server_port bound{};
  if (context_ == nullptr || mg_get_server_ports(context_, 1, &bound) != 1) {
    return absl::UnavailableError(
        StrCat("cannot listen for metrics on ", address, ": ", text.data()));
  }
  host_ = address.substr(0, address.rfind(':'));
  port_ = bound.port;
  mg_set_request_handler(context_, "**", &Exposer::Handle, this);
  return absl::OkStatus();
}

int Exposer::Handle(mg_connection* connection, void* exposer) {
  const mg_request_info* request = mg_get_request_info(connection);
  const std::string_view method = request->request_method;
  const Response response = static_cast<Exposer*>(exposer)->Answer(method, request->local_uri);
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            response.status, Reason(response.status), response.content_type.c_str(),
            response.body.size());
  if (method != "HEAD") mg_write(connection, response.body.data(), response.body.size());
  return response.status;
}

Exposer::Response Exposer::Answer(std::string_view method, std::string_view path) {
  const bool is_probe = path == "/livez" || path == "/readyz" || path == "/startupz";
  if (!is_probe && path != "/metrics") {
    return {404, kPlainText, "here are /metrics, /livez, /readyz and /startupz\n"};
  }
  if (method != "GET" && method != "HEAD") return {405, kPlainText, "use GET\n"};
  if (!is_probe) return {200, kPrometheusText, metrics_.Scrape()};
  const auto [holds, reason] = probe_(path.substr(1));
  if (holds) return {200, kPlainText, "ok\n"};
  return {503, kPlainText, reason + "\n"};
}

}  // namespace secateur
