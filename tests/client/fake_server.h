// A server for client tests, in process, on a port of its own. It answers from what the test put
// into it and remembers what it was asked. Tests set it up before they call; the streams are
// scripts that the test writes. Thread-safe as far as one client at a time needs.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "client/secateur_client.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "secateur/v1/secateur.grpc.pb.h"

namespace secateur {

using google::longrunning::Operation;

// google.longrunning.Operations.
class FakeOperations final : public google::longrunning::Operations::Service {
 public:
  std::vector<Operation> known;
  // Answers of WaitOperation, one after the other; the last one stays.
  std::vector<Operation> wait_answers;
  size_t wait_calls = 0;
  std::string cancelled, deleted, listed;

  grpc::Status GetOperation(grpc::ServerContext*,
                            const google::longrunning::GetOperationRequest* request,
                            Operation* operation) override;
  grpc::Status ListOperations(grpc::ServerContext*,
                              const google::longrunning::ListOperationsRequest* request,
                              google::longrunning::ListOperationsResponse* response) override;
  grpc::Status WaitOperation(grpc::ServerContext*,
                             const google::longrunning::WaitOperationRequest* request,
                             Operation* operation) override;
  grpc::Status CancelOperation(grpc::ServerContext*,
                               const google::longrunning::CancelOperationRequest* request,
                               google::protobuf::Empty*) override;
  grpc::Status DeleteOperation(grpc::ServerContext*,
                               const google::longrunning::DeleteOperationRequest* request,
                               google::protobuf::Empty*) override;
};

class FakeSecateur final : public v1::Secateur::Service {
 public:
  // What uploads sent: the last one's metadata, the chunks of all.
  struct Uploads {
    v1::UploadCorpusMetadata metadata;
    std::vector<std::string> chunks;
    bool finished = false;
  };

  using WatchWriter = grpc::ServerWriter<v1::WatchOperationResponse>;
  using DownloadWriter = grpc::ServerWriter<v1::DownloadExpertFileResponse>;

  // Answers.
  std::vector<v1::Model> models;
  std::vector<v1::Corpus> corpora;
  std::vector<v1::Profile> profiles;
  std::vector<v1::Dimension> dimensions;
  std::vector<v1::Expert> experts;
  v1::PlanExpertResponse plan;
  v1::CompareDimensionsResponse comparison;
  Operation started;     // what methods that start an operation return
  size_t page = 2;       // items of a list's page
  grpc::Status refusal;  // unless OK, what unary calls return...
  int refusals = -1;     // ...this many times; -1: always
  std::function<grpc::Status(int call, grpc::ServerContext&, WatchWriter&)> watch;
  std::function<grpc::Status(const v1::DownloadExpertFileRequest&, DownloadWriter&)> download;

  // What was asked.
  int calls = 0;  // of GetModel
  int watches = 0;
  std::map<std::string, std::string> last_metadata;
  v1::UpdateCorpusRequest update_request;
  v1::DeleteCorpusRequest delete_corpus_request;
  v1::CreateCorpusRequest create_corpus_request;
  v1::CreateProfileRequest profile_request;
  v1::CompareDimensionsRequest compare_request;
  v1::PlanExpertRequest plan_request;
  v1::CreateExpertRequest expert_request;
  std::vector<std::string> request_ids;  // of all CreateExpert
  v1::EvaluateExpertRequest evaluate_request;
  std::vector<v1::DownloadExpertFileRequest> downloads;
  std::string filter, parent, deleted;
  int list_calls = 0;
  Uploads uploads() const;

  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                        v1::Model* model) override;
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override;
  grpc::Status UploadCorpus(grpc::ServerContext* context,
                            grpc::ServerReader<v1::UploadCorpusRequest>* reader,
                            v1::UploadCorpusResponse* response) override;
  grpc::Status CreateCorpus(grpc::ServerContext*, const v1::CreateCorpusRequest* request,
                            Operation* operation) override;
  grpc::Status GetCorpus(grpc::ServerContext*, const v1::GetCorpusRequest* request,
                         v1::Corpus* corpus) override;
  grpc::Status ListCorpora(grpc::ServerContext*, const v1::ListCorporaRequest* request,
                           v1::ListCorporaResponse* response) override;
  grpc::Status UpdateCorpus(grpc::ServerContext*, const v1::UpdateCorpusRequest* request,
                            v1::Corpus* corpus) override;
  grpc::Status DeleteCorpus(grpc::ServerContext*, const v1::DeleteCorpusRequest* request,
                            google::protobuf::Empty*) override;
  grpc::Status CreateProfile(grpc::ServerContext*, const v1::CreateProfileRequest* request,
                             Operation* operation) override;
  grpc::Status GetProfile(grpc::ServerContext*, const v1::GetProfileRequest* request,
                          v1::Profile* profile) override;
  grpc::Status ListProfiles(grpc::ServerContext*, const v1::ListProfilesRequest* request,
                            v1::ListProfilesResponse* response) override;
  grpc::Status DeleteProfile(grpc::ServerContext*, const v1::DeleteProfileRequest* request,
                             google::protobuf::Empty*) override;
  grpc::Status ListDimensions(grpc::ServerContext*, const v1::ListDimensionsRequest* request,
                              v1::ListDimensionsResponse* response) override;
  grpc::Status CompareDimensions(grpc::ServerContext*, const v1::CompareDimensionsRequest* request,
                                 v1::CompareDimensionsResponse* response) override;
  grpc::Status PlanExpert(grpc::ServerContext*, const v1::PlanExpertRequest* request,
                          v1::PlanExpertResponse* response) override;
  grpc::Status CreateExpert(grpc::ServerContext*, const v1::CreateExpertRequest* request,
                            Operation* operation) override;
  grpc::Status EvaluateExpert(grpc::ServerContext*, const v1::EvaluateExpertRequest* request,
                              Operation* operation) override;
  grpc::Status GetExpert(grpc::ServerContext*, const v1::GetExpertRequest* request,
                         v1::Expert* expert) override;
  grpc::Status ListExperts(grpc::ServerContext*, const v1::ListExpertsRequest* request,
                           v1::ListExpertsResponse* response) override;
  grpc::Status DeleteExpert(grpc::ServerContext*, const v1::DeleteExpertRequest* request,
                            google::protobuf::Empty*) override;
  grpc::Status DownloadExpertFile(grpc::ServerContext*,
                                  const v1::DownloadExpertFileRequest* request,
                                  DownloadWriter* writer) override;
  grpc::Status WatchOperation(grpc::ServerContext* context,
                              const v1::WatchOperationRequest* request,
                              WatchWriter* writer) override;

 private:
  grpc::Status Refuse();

  // That gRPC hands over from its thread is not seen by the thread sanitizer.
  mutable std::mutex mutex_;
  Uploads uploads_;
};

class FakeServer {
 public:
  explicit FakeServer(
      std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials());
  ~FakeServer();

  FakeSecateur secateur;
  FakeOperations operations;
  // "localhost:PORT".
  const std::string& address() const { return address_; }
  SecateurClient Client() const;
  void Stop();

 private:
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

// An operation with metadata; `share` of the work is done.
Operation RunningOperation(const std::string& name, const std::string& phase, double share);
Operation SucceededOperation(const std::string& name, const google::protobuf::Message& response);
Operation FailedOperation(const std::string& name, grpc::StatusCode code,
                          const std::string& message);

// A file as an expert lists it, with its true digest.
v1::ExpertFile FileOf(const std::string& name, const std::string& bytes);
// A download script that serves `bytes` as `file` in chunks of `chunk` bytes.
std::function<grpc::Status(const v1::DownloadExpertFileRequest&, FakeSecateur::DownloadWriter&)>
Serve(const v1::ExpertFile& file, const std::string& bytes, size_t chunk);

}  // namespace secateur
