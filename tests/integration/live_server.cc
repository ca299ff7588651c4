#include "tests/integration/live_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "server/admin/verify_store.h"
#include "server/storage/local_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {

LiveServer::LiveServer(const Change& change, std::shared_ptr<grpc::ChannelCredentials> credentials)
    : credentials_(std::move(credentials)) {
  const std::string model = dir_.Join("model");
  std::filesystem::create_directory(model);
  EXPECT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), model));
  options_.models = {{"tiny", model}};
  options_.store = "file:" + dir_.Join("store");
  options_.listen = "127.0.0.1:0";
  options_.metrics = "127.0.0.1:0";
  options_.threads = 1;
  options_.drain = absl::Seconds(120);
  options_.log_level = LogLevel::kError;
  if (change) change(options_);
  Start();
}

LiveServer::~LiveServer() { HangUp(); }

void LiveServer::Start() {
  auto server = Server::Start(options_);
  ASSERT_OK(server);
  server_ = *std::move(server);
  ASSERT_OK(server_->WaitUntilReady());
  Connect(server_->port(), credentials_);
}

void LiveServer::Restart() {
  server_->DrainAndStop();
  server_.reset();
  Start();
}

std::map<std::string, std::string> LiveServer::Stored() const {
  std::map<std::string, std::string> files = FilesOf(store());
  std::erase_if(files, [](const auto& file) {
    return file.first.starts_with(".tmp/") || file.first.starts_with("operations/") ||
           file.first.starts_with("replicas/");
  });
  return files;
}

bool LiveServer::HasNoTemporaryFiles() const {
  return Eventually([this] {
    const auto files = FilesOf(store());
    return std::none_of(files.begin(), files.end(),
                        [](const auto& file) { return file.first.starts_with(".tmp/"); });
  });
}

void LiveServer::ExpectAWholeStore() const {
  EXPECT_TRUE(HasNoTemporaryFiles());
  ASSERT_OK_AND_ASSIGN(const auto root, LocalStore::Open(dir_.Join("store")));
  ASSERT_OK_AND_ASSIGN(const VerifyReport report, VerifyStore(*root));
  for (const auto& finding : report.damaged) ADD_FAILURE() << finding.key << ": " << finding.what;
  for (const auto& finding : report.orphans) ADD_FAILURE() << finding.key << ": " << finding.what;
}

int LiveServer::Health(const std::string& service) {
  const auto stub = health::Health::NewStub(channel());
  health::HealthCheckRequest request;
  request.set_service(service);
  grpc::ClientContext context;
  health::HealthCheckResponse response;
  return stub->Check(&context, request, &response).ok() ? response.status() : -1;
}

std::string LiveServer::Http(const std::string& path) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  if (connection < 0) return "";
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(server_->metrics_port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string response;
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
    EXPECT_EQ(write(connection, request.data(), request.size()),
              static_cast<ssize_t>(request.size()));
    char buffer[4096];
    for (ssize_t n = 0; (n = read(connection, buffer, sizeof(buffer))) > 0;) {
      response.append(buffer, static_cast<size_t>(n));
    }
  }
  close(connection);
  return response;
}

void UploadLawCorpora(LiveServer& live) {
  live.Upload({{"language", "en"}, {"domain", "law"}}, JsonLines(6, "english law"));
  live.Upload({{"language", "en"}, {"domain", "cooking"}}, JsonLines(5, "english cooking"));
  live.Upload({{"language", "de"}, {"domain", "law"}}, JsonLines(4, "german law"));
}

std::map<std::string, std::string> FilesOf(const std::string& folder) {
  std::map<std::string, std::string> files;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(folder, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    std::ifstream in(entry->path(), std::ios::binary);
    if (!in || !entry->is_regular_file(error)) continue;
    std::stringstream bytes;
    bytes << in.rdbuf();
    files[entry->path().lexically_relative(folder).string()] = bytes.str();
  }
  return files;
}

}  // namespace secateur
