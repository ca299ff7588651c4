#include "tests/client/fake_server.h"

#include <openssl/sha.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/client/fake_lists.h"

namespace secateur {

grpc::Status FakeSecateur::Refuse() {
  if (refusals == 0) return grpc::Status::OK;
  if (refusals > 0) --refusals;
  return refusal;
}

grpc::Status FakeSecateur::GetModel(grpc::ServerContext* context,
                                    const v1::GetModelRequest* request, v1::Model* model) {
  ++calls;
  last_metadata.clear();
  for (const auto& [key, value] : context->client_metadata()) {
    last_metadata[std::string(key.data(), key.size())] = std::string(value.data(), value.size());
  }
  if (grpc::Status status = Refuse(); !status.ok()) return status;
  return FindByName(models, request->name(), model);
}

grpc::Status FakeSecateur::ListModels(grpc::ServerContext*, const v1::ListModelsRequest* request,
                                      v1::ListModelsResponse* response) {
  ++list_calls;
  if (grpc::Status status = Refuse(); !status.ok()) return status;
  return AddPage(models, page, *request, *response->mutable_models(), *response);
}

FakeSecateur::Uploads FakeSecateur::uploads() const {
  const std::lock_guard lock(mutex_);
  return uploads_;
}

grpc::Status FakeSecateur::UploadCorpus(grpc::ServerContext*,
                                        grpc::ServerReader<v1::UploadCorpusRequest>* reader,
                                        v1::UploadCorpusResponse* response) {
  v1::UploadCorpusRequest request;
  if (!reader->Read(&request) || !request.has_metadata()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "metadata must come first"};
  }
  const std::lock_guard lock(mutex_);
  uploads_.metadata = request.metadata();
  if (grpc::Status status = Refuse(); !status.ok()) return status;
  *response->mutable_corpus() = uploads_.metadata.corpus();
  response->mutable_corpus()->set_name("corpora/c1");
  for (const v1::Corpus& known : corpora) {
    if (known.digest().empty() || known.digest() != uploads_.metadata.corpus().digest()) continue;
    *response->mutable_corpus() = known;
    response->set_existed(true);
    return grpc::Status::OK;
  }
  int64_t bytes = 0, lines = 0;
  while (!request.finish() && reader->Read(&request)) {
    if (!request.data().empty()) uploads_.chunks.push_back(request.data());
    bytes += static_cast<int64_t>(request.data().size());
    lines += std::count(request.data().begin(), request.data().end(), '\n');
  }
  uploads_.finished = request.finish();
  if (!uploads_.finished) return {grpc::StatusCode::INVALID_ARGUMENT, "no finish"};
  response->mutable_corpus()->set_text_bytes(bytes);
  response->mutable_corpus()->set_document_count(lines);
  return grpc::Status::OK;
}

grpc::Status FakeSecateur::CreateCorpus(grpc::ServerContext*,
                                        const v1::CreateCorpusRequest* request,
                                        Operation* operation) {
  create_corpus_request = *request;
  *operation = started;
  return Refuse();
}

grpc::Status FakeSecateur::GetCorpus(grpc::ServerContext*, const v1::GetCorpusRequest* request,
                                     v1::Corpus* corpus) {
  return FindByName(corpora, request->name(), corpus);
}

grpc::Status FakeSecateur::ListCorpora(grpc::ServerContext*, const v1::ListCorporaRequest* request,
                                       v1::ListCorporaResponse* response) {
  filter = request->filter();
  return AddPage(corpora, page, *request, *response->mutable_corpora(), *response);
}

grpc::Status FakeSecateur::UpdateCorpus(grpc::ServerContext*,
                                        const v1::UpdateCorpusRequest* request,
                                        v1::Corpus* corpus) {
  update_request = *request;
  *corpus = request->corpus();
  return Refuse();
}

grpc::Status FakeSecateur::DeleteCorpus(grpc::ServerContext*,
                                        const v1::DeleteCorpusRequest* request,
                                        google::protobuf::Empty*) {
  delete_corpus_request = *request;
  return Refuse();
}

grpc::Status FakeSecateur::CreateProfile(grpc::ServerContext*,
                                         const v1::CreateProfileRequest* request,
                                         Operation* operation) {
  profile_request = *request;
  *operation = started;
  return Refuse();
}

grpc::Status FakeSecateur::GetProfile(grpc::ServerContext*, const v1::GetProfileRequest* request,
                                      v1::Profile* profile) {
  return FindByName(profiles, request->name(), profile);
}

grpc::Status FakeSecateur::ListProfiles(grpc::ServerContext*,
                                        const v1::ListProfilesRequest* request,
                                        v1::ListProfilesResponse* response) {
  parent = request->parent();
  return AddPage(profiles, page, *request, *response->mutable_profiles(), *response);
}

grpc::Status FakeSecateur::DeleteProfile(grpc::ServerContext*,
                                         const v1::DeleteProfileRequest* request,
                                         google::protobuf::Empty*) {
  deleted = request->name();
  return Refuse();
}

grpc::Status FakeSecateur::ListDimensions(grpc::ServerContext*,
                                          const v1::ListDimensionsRequest* request,
                                          v1::ListDimensionsResponse* response) {
  parent = request->parent();
  return AddPage(dimensions, page, *request, *response->mutable_dimensions(), *response);
}

grpc::Status FakeSecateur::CompareDimensions(grpc::ServerContext*,
                                             const v1::CompareDimensionsRequest* request,
                                             v1::CompareDimensionsResponse* response) {
  compare_request = *request;
  *response = comparison;
  return Refuse();
}

grpc::Status FakeSecateur::PlanExpert(grpc::ServerContext*, const v1::PlanExpertRequest* request,
                                      v1::PlanExpertResponse* response) {
  plan_request = *request;
  *response = plan;
  return Refuse();
}

grpc::Status FakeSecateur::CreateExpert(grpc::ServerContext*,
                                        const v1::CreateExpertRequest* request,
                                        Operation* operation) {
  expert_request = *request;
  request_ids.push_back(request->request_id());
  *operation = started;
  return Refuse();
}

grpc::Status FakeSecateur::EvaluateExpert(grpc::ServerContext*,
                                          const v1::EvaluateExpertRequest* request,
                                          Operation* operation) {
  evaluate_request = *request;
  *operation = started;
  return Refuse();
}

grpc::Status FakeSecateur::GetExpert(grpc::ServerContext*, const v1::GetExpertRequest* request,
                                     v1::Expert* expert) {
  return FindByName(experts, request->name(), expert);
}

grpc::Status FakeSecateur::ListExperts(grpc::ServerContext*, const v1::ListExpertsRequest* request,
                                       v1::ListExpertsResponse* response) {
  parent = request->parent();
  return AddPage(experts, page, *request, *response->mutable_experts(), *response);
}

grpc::Status FakeSecateur::DeleteExpert(grpc::ServerContext*,
                                        const v1::DeleteExpertRequest* request,
                                        google::protobuf::Empty*) {
  deleted = request->name();
  return Refuse();
}

grpc::Status FakeSecateur::DownloadExpertFile(grpc::ServerContext*,
                                              const v1::DownloadExpertFileRequest* request,
                                              DownloadWriter* writer) {
  downloads.push_back(*request);
  return download(*request, *writer);
}

grpc::Status FakeSecateur::WatchOperation(grpc::ServerContext* context,
                                          const v1::WatchOperationRequest*, WatchWriter* writer) {
  return watch(watches++, *context, *writer);
}

FakeServer::FakeServer(std::shared_ptr<grpc::ServerCredentials> credentials) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("localhost:0", std::move(credentials), &port);
  builder.RegisterService(&secateur);
  builder.RegisterService(&operations);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) throw std::runtime_error("the fake server does not start");
  address_ = absl::StrCat("localhost:", port);
}

FakeServer::~FakeServer() { Stop(); }

void FakeServer::Stop() {
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

SecateurClient FakeServer::Client() const {
  ClientOptions options;
  options.address = address_;
  return SecateurClient::Connect(options).value();
}

v1::ExpertFile FileOf(const std::string& name, const std::string& bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  v1::ExpertFile file;
  file.set_name(name);
  file.set_size_bytes(static_cast<int64_t>(bytes.size()));
  file.set_sha256(
      absl::BytesToHexString(std::string(reinterpret_cast<const char*>(digest), sizeof(digest))));
  return file;
}

std::function<grpc::Status(const v1::DownloadExpertFileRequest&, FakeSecateur::DownloadWriter&)>
Serve(const v1::ExpertFile& file, const std::string& bytes, size_t chunk) {
  return [=](const v1::DownloadExpertFileRequest& request, FakeSecateur::DownloadWriter& writer) {
    v1::DownloadExpertFileResponse response;
    *response.mutable_file() = file;
    writer.Write(response);
    for (size_t at = static_cast<size_t>(request.offset()); at < bytes.size(); at += chunk) {
      response.set_data(bytes.substr(at, chunk));
      if (!writer.Write(response)) break;
    }
    return grpc::Status::OK;
  };
}

}  // namespace secateur
