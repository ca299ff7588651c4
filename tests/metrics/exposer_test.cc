#include "server/metrics/exposer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "server/base/strings.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A TCP connection to this machine.
class Connection {
 public:
  explicit Connection(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Connection() { close(socket_); }

  bool connected() const { return connected_; }
  void Send(const std::string& text) {
    EXPECT_EQ(send(socket_, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // All that comes until the other side closes.
  std::string Receive() {
    std::string received;
    char buffer[4096];
    for (ssize_t n; (n = recv(socket_, buffer, sizeof(buffer), 0)) > 0;) received.append(buffer, n);
    return received;
  }

 private:
  const int socket_;
  bool connected_ = false;
};

std::string Request(int port, const std::string& method, const std::string& path) {
  Connection connection(port);
  EXPECT_TRUE(connection.connected());
  connection.Send(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  return connection.Receive();
}

class ExposerTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(exposer_,
                         Exposer::Start("127.0.0.1:0", metrics_, [this](std::string_view probe) {
                           return std::pair(probe == "livez" || ready_.load(),
                                            std::string("loading ") + std::string(probe));
                         }));
  }
  std::string Get(const std::string& path) { return Request(exposer_->port(), "GET", path); }

  Metrics metrics_{"1.2.3"};
  std::atomic<bool> ready_ = false;
  std::unique_ptr<Exposer> exposer_;
};

TEST_F(ExposerTest, ServesTheMetrics) {
  metrics_.CountRpc("PlanExpert", absl::StatusCode::kOk, 0.25);
  const std::string response = Get("/metrics");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(response, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(response,
              HasSubstr("secateur_rpc_requests_total{code=\"OK\",method=\"PlanExpert\"} 1\n"));
  EXPECT_THAT(response, HasSubstr("secateur_build_info{version=\"1.2.3\"} 1\n"));
}

TEST_F(ExposerTest, AnswersProbesWithWhatHolds) {
  for (const std::string probe : {"readyz", "startupz"}) {
    EXPECT_THAT(Get("/" + probe),
                AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("\r\n\r\nloading " + probe + "\n")));
  }
  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 OK\r\n"));
  ready_ = true;
  for (const std::string probe : {"livez", "readyz", "startupz"}) {
    EXPECT_THAT(Get("/" + probe),
                AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\n\r\nok\n")));
  }
  EXPECT_THAT(Get("/readyz?verbose"), StartsWith("HTTP/1.1 200 OK\r\n"));
  ready_ = false;
  EXPECT_THAT(Get("/readyz"), StartsWith("HTTP/1.1 503 "));
}

TEST_F(ExposerTest, ServesNothingElse) {
  for (const std::string path :
       {"/", "/metrics/", "/metrics/x", "/livez/x", "/etc/passwd", "/..", "/../etc/passwd",
        "/%2e%2e/etc/passwd", "/metricsx", "/favicon.ico", "/a.cgi", "/x.shtml"}) {
    EXPECT_THAT(Get(path), Not(StartsWith("HTTP/1.1 200"))) << path;
  }
}

TEST_F(ExposerTest, TakesOnlyReads) {
  for (const std::string method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
    EXPECT_THAT(Request(exposer_->port(), method, "/metrics"), StartsWith("HTTP/1.1 405 "))
        << method;
  }
  const std::string head = Request(exposer_->port(), "HEAD", "/livez");
  EXPECT_THAT(head, AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 3\r\n")));
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
}

TEST_F(ExposerTest, SurvivesHostileRequests) {
  const std::string hostile[] = {
      "\r\n\r\n",
      "GET",
      "GET \r\n\r\n",
      "GET /metrics\r\n\r\n",
      std::string("\0\0\0\0\r\n\r\n", 8),
      "GET /" + std::string(100000, 'x') + " HTTP/1.1\r\n\r\n",
      "GET /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
      "GET http://[::1/metrics HTTP/1.1\r\n\r\n",
      "\x16\x03\x01\x02 a TLS hello\r\n\r\n"};
  for (const std::string& request : hostile) {
    Connection connection(exposer_->port());
    ASSERT_TRUE(connection.connected());
    connection.Send(request);
  }
  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ExposerTest, AnswersManyClients) {
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      for (int k = 0; k < 10; ++k) answered += Get("/metrics").starts_with("HTTP/1.1 200 OK");
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered, 80);
}

TEST_F(ExposerTest, AnswersAlthoughAsManyClientsAsItHasThreadsAreSilent) {
  Connection first(exposer_->port());
  Connection second(exposer_->port());
  first.Send("GET /met");
  second.Send("G");
  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ExposerTest, StopsWhileAClientIsSilent) {
  const int port = exposer_->port();
  Connection silent(port);
  ASSERT_TRUE(silent.connected());
  silent.Send("GET /met");
  exposer_.reset();
  EXPECT_FALSE(Connection(port).connected());
}

TEST_F(ExposerTest, SaysThatAPortIsTaken) {
  const std::string address = StrCat("127.0.0.1:", exposer_->port());
  EXPECT_THAT(Exposer::Start(address, metrics_,
                             [](std::string_view) { return std::pair(true, std::string()); }),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address)));
}

TEST_F(ExposerTest, RefusesMalformedAddresses) {
  for (const std::string address :
       {"", ":", "9464", ":9464", "localhost", "localhost:", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1:80s", "127.0.0.1:80,127.0.0.1:81", "127.0.0.1:80 ", "+80",
        "127.0.0.1:99999999999999999999", "a b:80"}) {
    EXPECT_THAT(Exposer::Start(address, metrics_,
                               [](std::string_view) { return std::pair(true, std::string()); }),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")))
        << address;
  }
}

TEST_F(ExposerTest, ListensOnNamesAndOnAllInterfaces) {
  for (const std::string address : {"localhost:0", "0.0.0.0:0"}) {
    const auto exposer = Exposer::Start(
        address, metrics_, [](std::string_view) { return std::pair(true, std::string()); });
    ASSERT_OK(exposer) << address;
    EXPECT_GT((*exposer)->port(), 0) << address;
  }
}

TEST_F(ExposerTest, ListensOnIpv6OrSaysThatItCannot) {
  const auto exposer = Exposer::Start(
      "[::1]:0", metrics_, [](std::string_view) { return std::pair(true, std::string()); });
  if (!exposer.ok()) {
    EXPECT_THAT(exposer, StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("IPv6")));
  }
}

TEST_F(ExposerTest, PassesPromtool) {
  const char* promtool = std::getenv("SECATEUR_PROMTOOL");
  if (promtool == nullptr) GTEST_SKIP() << "SECATEUR_PROMTOOL is not set";
  metrics_.CountRpc("PlanExpert", absl::StatusCode::kOk, 0.25);
  metrics_.OperationStarted("create_expert");
  metrics_.OperationEnded("create_expert", "succeeded", 3);
  metrics_.CountStore("read", absl::StatusCode::kNotFound, 0.001);
  metrics_.CountStoreBytes("read", 1000);
  metrics_.SetModelResidentBytes("base", 1000);
  metrics_.CountCorruptObject("profile");
  const std::string response = Get("/metrics");
  const TempDir dir;
  const std::string file = dir.Write("metrics", response.substr(response.find("\r\n\r\n") + 4));
  const std::string output = dir.Join("output");
  const int result =
      std::system(StrCat(promtool, " check metrics < ", file, " > ", output, " 2>&1").c_str());
  std::ifstream said(output);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(said), {}), "");
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace secateur
