#include "tests/integration/live_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

const char* const kWords[] = {"court",  "river", "number", "engine", "flower", "contract",
                              "winter", "proof", "doctor", "signal", "bread",  "harbour"};

}  // namespace

RpcError ErrorOf(const google::rpc::Status& status) {
  RpcError error{.code = static_cast<grpc::StatusCode>(status.code()), .message = status.message()};
  for (const auto& detail : status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    google::rpc::ResourceInfo resource;
    google::rpc::QuotaFailure quota;
    if (detail.UnpackTo(&info)) {
      error.reason = info.reason();
      error.domain = info.domain();
      if (info.metadata().contains("field")) error.field = info.metadata().at("field");
    } else if (detail.UnpackTo(&bad) && bad.field_violations_size() > 0) {
      EXPECT_EQ(bad.field_violations(0).field(), error.field);
    } else if (detail.UnpackTo(&resource)) {
      error.resource = resource.resource_name();
    } else if (detail.UnpackTo(&quota) && quota.violations_size() > 0) {
      error.quota = quota.violations(0).subject();
    }
    error.retry |= detail.Is<google::rpc::RetryInfo>();
    error.precondition |= detail.Is<google::rpc::PreconditionFailure>();
  }
  return error;
}

RpcError ErrorOf(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  RpcError error = ErrorOf(details);
  error.code = status.error_code();
  error.message = status.error_message();
  return error;
}

std::string JsonLines(int count, const std::string& theme) {
  std::string lines;
  size_t state = std::hash<std::string>()(theme);
  for (int i = 0; i < count; ++i) {
    lines += R"({"text":")" + theme + " " + std::to_string(i);
    for (int word = 0; word < 60; ++word) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      lines += std::string(" ") + kWords[(state >> 33U) % std::size(kWords)];
    }
    lines += "\"}\n";
  }
  return lines;
}

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

LiveServer::~LiveServer() = default;

void LiveServer::Start() {
  auto server = Server::Start(options_);
  ASSERT_OK(server);
  server_ = *std::move(server);
  ASSERT_OK(server_->WaitUntilReady());
  channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()), credentials_);
  stub_ = v1::Secateur::NewStub(channel_);
  operations_ = lro::Operations::NewStub(channel_);
  v1::GetModelRequest request;
  request.set_name("models/tiny");
  EXPECT_TRUE(Eventually([&] {
    v1::Model model;
    return Call(&v1::Secateur::Stub::GetModel, request, &model).ok() && !model.digest().empty();
  }));
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

grpc::Status LiveServer::Upload(const std::vector<v1::UploadCorpusRequest>& messages,
                                v1::UploadCorpusResponse* response) {
  grpc::ClientContext context;
  const auto writer = stub_->UploadCorpus(&context, response);
  for (const v1::UploadCorpusRequest& message : messages) {
    if (!writer->Write(message)) break;  // the server has answered
  }
  writer->WritesDone();
  return writer->Finish();
}

std::vector<v1::UploadCorpusRequest> UploadMessages(const LabelMap& labels, const std::string& text,
                                                    v1::CorpusPurpose purpose) {
  std::vector<v1::UploadCorpusRequest> messages(1);
  v1::Corpus& corpus = *messages[0].mutable_metadata()->mutable_corpus();
  corpus.mutable_labels()->insert(labels.begin(), labels.end());
  corpus.set_purpose(purpose);
  for (size_t at = 0; at < text.size(); at += 100'003) {
    messages.emplace_back().set_data(text.substr(at, 100'003));
  }
  messages.back().set_finish(true);
  return messages;
}

v1::Corpus LiveServer::Upload(const LabelMap& labels, const std::string& text,
                              v1::CorpusPurpose purpose) {
  v1::UploadCorpusResponse response;
  EXPECT_RPC_OK(Upload(UploadMessages(labels, text, purpose), &response));
  return response.corpus();
}

lro::Operation LiveServer::Wait(const lro::Operation& operation) {
  lro::Operation now = operation;
  lro::WaitOperationRequest request;
  request.set_name(operation.name());
  for (int i = 0; i < 10 && !now.done(); ++i) {
    grpc::ClientContext context;
    EXPECT_RPC_OK(operations_->WaitOperation(&context, request, &now));
  }
  EXPECT_TRUE(now.done());
  return now;
}

void LiveServer::ProfileAll() {
  v1::CreateProfileRequest request;
  request.set_parent("models/tiny");
  request.set_filter("*");
  lro::Operation operation;
  ASSERT_RPC_OK(Call(&v1::Secateur::Stub::CreateProfile, request, &operation));
  EXPECT_TRUE(Wait(operation).has_response());
}

grpc::Status LiveServer::Create(const v1::CreateExpertRequest& request, lro::Operation* operation) {
  return Call(&v1::Secateur::Stub::CreateExpert, request, operation);
}

v1::Expert LiveServer::Make(const v1::CreateExpertRequest& request) {
  lro::Operation operation;
  EXPECT_RPC_OK(Create(request, &operation));
  return ResponseOf<v1::Expert>(Wait(operation));
}

lro::Operation LiveServer::GetOperation(const std::string& name) {
  lro::GetOperationRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  lro::Operation operation;
  EXPECT_RPC_OK(operations_->GetOperation(&context, request, &operation));
  return operation;
}

grpc::Status LiveServer::Cancel(const std::string& name) {
  lro::CancelOperationRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  google::protobuf::Empty empty;
  return operations_->CancelOperation(&context, request, &empty);
}

std::vector<lro::Operation> LiveServer::Watch(const std::string& name) {
  v1::WatchOperationRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  const auto reader = stub_->WatchOperation(&context, request);
  std::vector<lro::Operation> seen;
  v1::WatchOperationResponse response;
  while (reader->Read(&response)) seen.push_back(response.operation());
  EXPECT_RPC_OK(reader->Finish());
  return seen;
}

grpc::Status LiveServer::Download(const std::string& expert, const std::string& file,
                                  int64_t offset, std::string* bytes, v1::ExpertFile* about) {
  v1::DownloadExpertFileRequest request;
  request.set_name(expert);
  request.set_file(file);
  request.set_offset(offset);
  grpc::ClientContext context;
  const auto reader = stub_->DownloadExpertFile(&context, request);
  v1::DownloadExpertFileResponse response;
  bool first = true;
  while (reader->Read(&response)) {
    EXPECT_EQ(response.has_file(), std::exchange(first, false));
    EXPECT_LE(response.data().size(), size_t{1} << 20U);
    if (response.has_file() && about != nullptr) *about = response.file();
    *bytes += response.data();
  }
  return reader->Finish();
}

int LiveServer::Health(const std::string& service) {
  const auto stub = health::Health::NewStub(channel_);
  health::HealthCheckRequest request;
  request.set_service(service);
  grpc::ClientContext context;
  health::HealthCheckResponse response;
  return stub->Check(&context, request, &response).ok() ? response.status() : -1;
}

std::string LiveServer::Http(const std::string& path) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
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

bool Eventually(const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (std::chrono::steady_clock::now() < deadline) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

v1::CreateExpertRequest LawRequest(double neuron_ratio) {
  v1::CreateExpertRequest request;
  request.set_parent("models/tiny");
  for (const auto& [key, value] : LabelMap{{"language", "en"}, {"domain", "law"}}) {
    v1::DimensionSelection& select = *request.mutable_spec()->add_select();
    select.set_key(key);
    select.add_values(value);
  }
  request.mutable_spec()->mutable_budget()->set_neuron_ratio(neuron_ratio);
  return request;
}

void UploadLawCorpora(LiveServer& live) {
  live.Upload({{"language", "en"}, {"domain", "law"}}, JsonLines(6, "english law"));
  live.Upload({{"language", "en"}, {"domain", "cooking"}}, JsonLines(5, "english cooking"));
  live.Upload({{"language", "de"}, {"domain", "law"}}, JsonLines(4, "german law"));
}

std::map<std::string, std::string> DigestsOf(const v1::Expert& expert) {
  std::map<std::string, std::string> digests;
  for (const v1::ExpertFile& file : expert.files()) digests[file.name()] = file.sha256();
  return digests;
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
