#include "tests/integration/plain_client.h"

#include <utility>

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

void PlainClient::Connect(int port, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), credentials);
  stub_ = v1::Secateur::NewStub(channel_);
  operations_ = lro::Operations::NewStub(channel_);
  // Experts need the digest of the model, which is worked out behind the start.
  v1::GetModelRequest request;
  request.set_name("models/tiny");
  EXPECT_TRUE(Eventually([&] {
    v1::Model model;
    return Call(&Stub::GetModel, request, &model).ok() && !model.digest().empty();
  }));
}

void PlainClient::HangUp() {
  stub_.reset();
  operations_.reset();
  channel_.reset();
}

grpc::Status PlainClient::Upload(const std::vector<v1::UploadCorpusRequest>& messages,
                                 v1::UploadCorpusResponse* response) {
  grpc::ClientContext context;
  const auto writer = stub_->UploadCorpus(&context, response);
  for (const v1::UploadCorpusRequest& message : messages) {
    if (!writer->Write(message)) break;  // the server has answered
  }
  writer->WritesDone();
  return writer->Finish();
}

v1::Corpus PlainClient::Upload(const LabelMap& labels, const std::string& text,
                               v1::CorpusPurpose purpose) {
  v1::UploadCorpusResponse response;
  EXPECT_RPC_OK(Upload(UploadMessages(labels, text, purpose), &response));
  return response.corpus();
}

grpc::Status PlainClient::DeleteCorpus(const std::string& name) {
  v1::DeleteCorpusRequest request;
  request.set_name(name);
  request.set_force(true);
  google::protobuf::Empty empty;
  return Call(&Stub::DeleteCorpus, request, &empty);
}

lro::Operation PlainClient::Wait(const lro::Operation& operation) {
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

void PlainClient::ProfileAll() {
  lro::Operation operation;
  ASSERT_RPC_OK(Call(&Stub::CreateProfile, secateur::ProfileAll(), &operation));
  EXPECT_TRUE(Wait(operation).has_response());
}

grpc::Status PlainClient::Create(const v1::CreateExpertRequest& request,
                                 lro::Operation* operation) {
  return Call(&Stub::CreateExpert, request, operation);
}

v1::Expert PlainClient::Make(const v1::CreateExpertRequest& request) {
  lro::Operation operation;
  EXPECT_RPC_OK(Create(request, &operation));
  return ResponseOf<v1::Expert>(Wait(operation));
}

lro::Operation PlainClient::GetOperation(const std::string& name) {
  lro::GetOperationRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  lro::Operation operation;
  EXPECT_RPC_OK(operations_->GetOperation(&context, request, &operation));
  return operation;
}

bool PlainClient::HasProgress(const std::string& name, const std::string& phase) {
  return Eventually([&] {
    const v1::OperationMetadata now = MetadataOf(GetOperation(name));
    return now.state() == v1::OperationMetadata::RUNNING && now.progress().done() > 0 &&
           (phase.empty() || now.progress().phase() == phase);
  });
}

grpc::Status PlainClient::Cancel(const std::string& name) {
  lro::CancelOperationRequest request;
  request.set_name(name);
  grpc::ClientContext context;
  google::protobuf::Empty empty;
  return operations_->CancelOperation(&context, request, &empty);
}

std::vector<lro::Operation> PlainClient::Watch(const std::string& name) {
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

grpc::Status PlainClient::Download(const std::string& expert, const std::string& file,
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

v1::CreateProfileRequest ProfileAll(const std::string& request_id) {
  v1::CreateProfileRequest request;
  request.set_parent("models/tiny");
  request.set_filter("*");
  request.set_request_id(request_id);
  return request;
}

v1::CreateExpertRequest EnglishRequest(double neuron_ratio) {
  v1::CreateExpertRequest request;
  request.set_parent("models/tiny");
  request.mutable_spec()->set_rule(v1::RELATIVE_MEAN);
  v1::DimensionSelection& select = *request.mutable_spec()->add_select();
  select.set_key("language");
  select.add_values("en");
  request.mutable_spec()->mutable_budget()->set_neuron_ratio(neuron_ratio);
  return request;
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

std::map<std::string, std::string> DigestsOf(const v1::Expert& expert) {
  std::map<std::string, std::string> digests;
  for (const v1::ExpertFile& file : expert.files()) digests[file.name()] = file.sha256();
  return digests;
}

}  // namespace secateur
