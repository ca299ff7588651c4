// The Secateur service over gRPC's callback API. Handlers check, delegate, convert and count; none
// blocks a gRPC thread or touches torch. Thread-safe; everything in Parts must outlive the service.
#pragma once

#include <string>
#include <utility>

#include "secateur/v1/secateur.grpc.pb.h"
#include "server/jobs/job_queue.h"
#include "server/pipeline/resident_models.h"
#include "server/pipeline/stores.h"
#include "server/service/call.h"
#include "server/storage/uri_allow_list.h"

namespace secateur {

// What the work behind operations needs.
struct JobParts {
  ResidentModels& models;
  Stores stores;
  const UriAllowList& readable;  // --allow-read
  const UriAllowList& writable;  // --allow-write
};

// And what the calls need beside it.
struct ServiceParts : JobParts {
  JobQueue& jobs;
  CallRunner& calls;
};

class SecateurService final : public v1::Secateur::CallbackService {
 public:
  explicit SecateurService(ServiceParts parts) : parts_(std::move(parts)) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* GetModel(Context* context, const v1::GetModelRequest* request,
                    v1::Model* response) override;
  Reactor* ListModels(Context* context, const v1::ListModelsRequest* request,
                      v1::ListModelsResponse* response) override;

  grpc::ServerReadReactor<v1::UploadCorpusRequest>* UploadCorpus(
      Context* context, v1::UploadCorpusResponse* response) override;
  Reactor* CreateCorpus(Context* context, const v1::CreateCorpusRequest* request,
                        google::longrunning::Operation* response) override;
  Reactor* GetCorpus(Context* context, const v1::GetCorpusRequest* request,
                     v1::Corpus* response) override;
  Reactor* ListCorpora(Context* context, const v1::ListCorporaRequest* request,
                       v1::ListCorporaResponse* response) override;
  Reactor* UpdateCorpus(Context* context, const v1::UpdateCorpusRequest* request,
                        v1::Corpus* response) override;
  Reactor* DeleteCorpus(Context* context, const v1::DeleteCorpusRequest* request,
                        google::protobuf::Empty* response) override;

  Reactor* CreateProfile(Context* context, const v1::CreateProfileRequest* request,
                         google::longrunning::Operation* response) override;
  Reactor* GetProfile(Context* context, const v1::GetProfileRequest* request,
                      v1::Profile* response) override;
  Reactor* ListProfiles(Context* context, const v1::ListProfilesRequest* request,
                        v1::ListProfilesResponse* response) override;
  Reactor* DeleteProfile(Context* context, const v1::DeleteProfileRequest* request,
                         google::protobuf::Empty* response) override;
  Reactor* ListDimensions(Context* context, const v1::ListDimensionsRequest* request,
                          v1::ListDimensionsResponse* response) override;
  Reactor* CompareDimensions(Context* context, const v1::CompareDimensionsRequest* request,
                             v1::CompareDimensionsResponse* response) override;

  Reactor* PlanExpert(Context* context, const v1::PlanExpertRequest* request,
                      v1::PlanExpertResponse* response) override;
  Reactor* CreateExpert(Context* context, const v1::CreateExpertRequest* request,
                        google::longrunning::Operation* response) override;
  Reactor* EvaluateExpert(Context* context, const v1::EvaluateExpertRequest* request,
                          google::longrunning::Operation* response) override;
  Reactor* GetExpert(Context* context, const v1::GetExpertRequest* request,
                     v1::Expert* response) override;
  Reactor* ListExperts(Context* context, const v1::ListExpertsRequest* request,
                       v1::ListExpertsResponse* response) override;
  Reactor* DeleteExpert(Context* context, const v1::DeleteExpertRequest* request,
                        google::protobuf::Empty* response) override;
  grpc::ServerWriteReactor<v1::DownloadExpertFileResponse>* DownloadExpertFile(
      Context* context, const v1::DownloadExpertFileRequest* request) override;

  grpc::ServerWriteReactor<v1::WatchOperationResponse>* WatchOperation(
      Context* context, const v1::WatchOperationRequest* request) override;

 private:
  const ServiceParts parts_;
};

}  // namespace secateur
