// An HTTP proxy on the loopback that spoils what a test tells it to: between a client of an object
// store and the store. Understands one request a connection (it asks both sides to close), which is
// enough to fail the third part of an upload and nothing else. Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace secateur {

struct ProxiedRequest {
  std::string method;  // "PUT"
  std::string target;  // "/bucket/key?partNumber=3&uploadId=..."
  std::string range;   // what Content-Range says of the body, "" without
  int number = 0;      // of all requests, counted from 1
};

struct Fault {
  enum class Kind {
    kNone,
    kAnswer,         // says `answer` itself; the store never hears of the request
    kAnswerAfter,    // the same after the store did as it was told
    kResetRequest,   // resets the connection in the middle of the request's body
    kResetAnswer,    // passes on half of the answer, then resets
    kShortenAnswer,  // passes on half of the answer, then closes in good order
    kStall,          // says nothing until Release(), then closes
  };
  Kind kind = Kind::kNone;
  std::string answer;  // all of it: "HTTP/1.1 503 Slow Down\r\n..."
};

// An answer with a body.
std::string HttpAnswer(const std::string& status, const std::string& body);
// S3's error as it is said: HttpAnswer with the code in XML. Azure says it in much the same way.
std::string S3Error(const std::string& status, const std::string& code);
std::string AzureError(const std::string& status, const std::string& code);
// Google's: `message` in JSON.
std::string GcsError(const std::string& status, const std::string& message);

class FaultProxy {
 public:
  using Policy = std::function<Fault(const ProxiedRequest&)>;

  explicit FaultProxy(int upstream_port);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  int port() const { return port_; }
  void Set(Policy policy);
  std::vector<ProxiedRequest> Seen() const;
  void Forget();
  // Ends all stalls, and spoils nothing more.
  void Release();

 private:
  void Accept();
  void Serve(int client);
  void Exchange(int client, int upstream);
  Fault Decide(const std::string& head);
  void WaitForRelease();

  const int upstream_port_;
  int listener_ = -1;
  int port_ = 0;
  std::thread acceptor_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Policy policy_;
  std::vector<ProxiedRequest> seen_;
  int requests_ = 0;
  int serving_ = 0;
  int releases_ = 0;
  bool stopping_ = false;
};

}  // namespace secateur
