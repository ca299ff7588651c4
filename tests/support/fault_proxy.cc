#include "tests/support/fault_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace secateur {
namespace {

constexpr size_t kBuffer = 64 << 10;
// Who is silent for so long in the middle of a request is not waited for. (A client of Azure that
// sends a part again after a lost answer may send none of its bytes.)
constexpr timeval kSilence = {.tv_sec = 2, .tv_usec = 0};

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// What is there, "" at the end.
std::string Receive(int fd) {
  std::string bytes(kBuffer, '\0');
  const ssize_t got = recv(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return bytes;
}

std::string ReceiveAll(int fd) {
  std::string all;
  for (std::string piece = Receive(fd); !piece.empty(); piece = Receive(fd)) all += piece;
  return all;
}

// Up to and with the empty line; what follows stays in `rest`.
std::string ReceiveHead(int fd, std::string& rest) {
  while (rest.find("\r\n\r\n") == std::string::npos) {
    const std::string piece = Receive(fd);
    if (piece.empty()) return "";
    rest += piece;
  }
  const size_t end = rest.find("\r\n\r\n") + 4;
  std::string head = rest.substr(0, end);
  rest.erase(0, end);
  return head;
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string Header(const std::string& head, const std::string& name) {
  const std::string lower = Lower(head);
  const size_t at = lower.find("\r\n" + name + ":");
  if (at == std::string::npos) return "";
  const size_t from = at + 3 + name.size();
  std::string value = head.substr(from, head.find("\r\n", from) - from);
  value.erase(0, value.find_first_not_of(' '));
  return value;
}

std::string WithoutHeader(std::string head, const std::string& name) {
  const size_t at = Lower(head).find("\r\n" + name + ":");
  if (at == std::string::npos) return head;
  return head.erase(at, head.find("\r\n", at + 2) - at);
}

// The request as the store is to see it: it closes after its answer, and is not waited for before
// the body is sent. Neither header is part of what S3's clients sign.
std::string Rewritten(std::string head) {
  head = WithoutHeader(WithoutHeader(std::move(head), "connection"), "expect");
  return head.insert(head.size() - 2, "Connection: close\r\n");
}

// An answer to HEAD has no body, nor a type of one.
std::string HeadOf(const std::string& answer) {
  return WithoutHeader(answer.substr(0, answer.find("\r\n\r\n") + 4), "content-type");
}

// Knows when a request's body is complete. A chunked one ends with an empty chunk, after which the
// client waits, so nothing but that can be the end of what was received.
class BodyEnd {
 public:
  explicit BodyEnd(const std::string& head)
      : chunked_(Lower(Header(head, "transfer-encoding")) == "chunked"),
        left_(std::strtoll(Header(head, "content-length").c_str(), nullptr, 10)) {}

  bool Reached(std::string_view bytes) {
    left_ -= static_cast<int64_t>(bytes.size());
    last_ += bytes;
    if (last_.size() > kLastChunk.size()) last_.erase(0, last_.size() - kLastChunk.size());
    return chunked_ ? last_ == kLastChunk : left_ <= 0;
  }

 private:
  static constexpr std::string_view kLastChunk = "\r\n0\r\n\r\n";
  const bool chunked_;
  int64_t left_;
  std::string last_;
};

void Reset(int fd) {
  const linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

}  // namespace

std::string HttpAnswer(const std::string& status, const std::string& body) {
  return "HTTP/1.1 " + status +
         "\r\nContent-Type: application/xml\r\nx-amz-request-id: proxy-request-7\r\n" +
         "x-ms-request-id: proxy-request-7\r\n" +
         "Connection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string S3Error(const std::string& status, const std::string& code) {
  return HttpAnswer(status, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>" + code +
                                "</Code><Message>as the test wants</Message>"
                                "<RequestId>proxy-request-7</RequestId></Error>");
}

std::string AzureError(const std::string& status, const std::string& code) {
  std::string answer =
      HttpAnswer(status, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>" + code +
                             "</Code><Message>as the test wants</Message></Error>");
  return answer.insert(answer.find("\r\n") + 2, "x-ms-error-code: " + code + "\r\n");
}

std::string GcsError(const std::string& status, const std::string& message) {
  const std::string code = status.substr(0, 3);
  return HttpAnswer(status, "{\"error\": {\"code\": " + code + ", \"message\": \"" + message +
                                "\", \"errors\": [{\"message\": \"" + message +
                                "\", \"domain\": \"global\", \"reason\": \"test\"}]}}");
}

FaultProxy::FaultProxy(int upstream_port) : upstream_port_(upstream_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener_ < 0) throw std::runtime_error("the proxy has no socket");
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 64) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("the proxy cannot listen");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

FaultProxy::~FaultProxy() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  close(listener_);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return serving_ == 0; });
}

void FaultProxy::Set(Policy policy) {
  const std::lock_guard lock(mutex_);
  policy_ = std::move(policy);
}

std::vector<ProxiedRequest> FaultProxy::Seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

void FaultProxy::Forget() {
  const std::lock_guard lock(mutex_);
  seen_.clear();
}

void FaultProxy::Accept() {
  while (true) {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      if (client >= 0) close(client);
      return;
    }
    if (client < 0) continue;
    ++serving_;
    std::thread([this, client] { Serve(client); }).detach();
  }
}

void FaultProxy::Serve(int client) {
  {
    const Socket client_socket(client);
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &kSilence, sizeof(kSilence));
    const Socket upstream(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = Loopback(upstream_port_);
    if (upstream.get() >= 0 && connect(upstream.get(), reinterpret_cast<const sockaddr*>(&address),
                                       sizeof(address)) == 0) {
      Exchange(client, upstream.get());
    }
  }
  const std::lock_guard lock(mutex_);
  --serving_;
  changed_.notify_all();
}

void FaultProxy::Exchange(int client, int upstream) {
  std::string body;
  const std::string head = ReceiveHead(client, body);
  if (head.empty()) return;
  const Fault fault = Decide(head);
  if (fault.kind == Fault::Kind::kStall) return WaitForRelease();
  const bool passes_on =
      fault.kind != Fault::Kind::kAnswer && fault.kind != Fault::Kind::kResetRequest;
  if (passes_on) SendAll(upstream, Rewritten(head));
  BodyEnd end(head);
  bool asks_first = !Header(head, "expect").empty();
  while (true) {
    const bool complete = end.Reached(body);
    if (!complete && std::exchange(asks_first, false)) {
      SendAll(client, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (passes_on && !SendAll(upstream, body)) return;
    if (fault.kind == Fault::Kind::kResetRequest) return Reset(client);
    if (complete) break;
    body = Receive(client);
    if (body.empty()) return;
  }
  if (fault.kind == Fault::Kind::kAnswer) {
    SendAll(client, head.starts_with("HEAD ") ? HeadOf(fault.answer) : fault.answer);
    return;
  }
  std::string answer = ReceiveAll(upstream);
  if (fault.kind == Fault::Kind::kAnswerAfter) answer = fault.answer;
  const bool half =
      fault.kind == Fault::Kind::kResetAnswer || fault.kind == Fault::Kind::kShortenAnswer;
  SendAll(client, std::string_view(answer).substr(0, half ? answer.size() / 2 : answer.size()));
  if (fault.kind == Fault::Kind::kResetAnswer) Reset(client);
}

Fault FaultProxy::Decide(const std::string& head) {
  ProxiedRequest request;
  const size_t space = head.find(' ');
  request.method = head.substr(0, space);
  request.target = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
  request.range = Header(head, "content-range");
  Policy policy;
  {
    const std::lock_guard lock(mutex_);
    request.number = ++requests_;
    seen_.push_back(request);
    policy = policy_;
  }
  return policy ? policy(request) : Fault{};
}

void FaultProxy::Release() {
  {
    const std::lock_guard lock(mutex_);
    policy_ = nullptr;
    ++releases_;
  }
  changed_.notify_all();
}

void FaultProxy::WaitForRelease() {
  std::unique_lock lock(mutex_);
  const int releases = releases_;
  changed_.wait(lock, [&] { return stopping_ || releases_ > releases; });
}

}  // namespace secateur
