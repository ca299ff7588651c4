#include "client/secateur_client.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/download.h"
#include "client/paging.h"

namespace secateur {
namespace {

using Stub = v1::Secateur::StubInterface;
using OperationsStub = google::longrunning::Operations::StubInterface;

template <class Request>
Request Named(const std::string& name) {
  Request request;
  request.set_name(name);
  return request;
}

template <class Request>
Request Under(const std::string& parent) {
  Request request;
  request.set_parent(parent);
  return request;
}

std::string RandomId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

// Between two tries, whatever a server says.
constexpr absl::Duration kLeastPause = absl::Milliseconds(100);
// What a plan of `spec` gets at least: the first one of a selection that trims a vocabulary
// tokenises its text and runs the base over some of it.
absl::Duration LeastPlanTime(const v1::ExpertSpec& spec) {
  const auto& units = spec.units();
  const bool trims = std::find(units.begin(), units.end(), v1::VOCABULARY) != units.end();
  return trims ? absl::Minutes(10) : absl::ZeroDuration();
}

// Starts a long operation and hands out its handle. The request has an id, so that it is one
// operation however often it is sent; it is sent again, all within one deadline, when the server
// says when to come back: one that drains does, and by then another may answer.
template <class Result, class Method, class Request>
absl::StatusOr<PendingOperation<Result>> Start(
    const std::shared_ptr<const ClientConnection>& connection, Method method, Request request,
    absl::Duration least_time = absl::ZeroDuration()) {
  if (request.request_id().empty()) request.set_request_id(RandomId());
  const absl::Time deadline = absl::Now() + std::max(connection->options.deadline, least_time);
  while (true) {
    auto operation = Unary(*connection, *connection->secateur, method, request, deadline);
    if (operation.ok()) return PendingOperation<Result>(connection, *std::move(operation));
    const auto asked = DetailsOfStatus(operation.status()).retry_after;
    if (!absl::IsUnavailable(operation.status()) || !asked) return operation.status();
    const absl::Duration pause = std::max(*asked, kLeastPause);
    if (absl::Now() + pause >= deadline) return operation.status();
    absl::SleepFor(pause);
  }
}

// All items of a list RPC; `method` is the RPC, `items` the accessor of its repeated field.
template <class Item, class Request, class Response>
absl::StatusOr<std::vector<Item>> List(
    const ClientConnection& connection,
    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    google::protobuf::RepeatedPtrField<Item>* (Response::*items)(), const Request& request) {
  return AllPages<Item>(
      request,
      [&](const Request& page) { return Unary(connection, *connection.secateur, method, page); },
      [items](Response& response) { return (response.*items)(); });
}

}  // namespace

absl::StatusOr<SecateurClient> SecateurClient::Connect(const ClientOptions& options) {
  auto connection = OpenConnection(options);
  if (!connection.ok()) return connection.status();
  return SecateurClient(*std::move(connection));
}

absl::StatusOr<v1::Model> SecateurClient::GetModel(const std::string& name) const {
  return Unary(*connection_, *connection_->secateur, &Stub::GetModel,
               Named<v1::GetModelRequest>(name));
}

absl::StatusOr<std::vector<v1::Model>> SecateurClient::ListModels() const {
  return List(*connection_, &Stub::ListModels, &v1::ListModelsResponse::mutable_models,
              v1::ListModelsRequest());
}

absl::StatusOr<PendingOperation<v1::Corpus>> SecateurClient::CreateCorpus(
    const v1::CreateCorpusRequest& request) const {
  return Start<v1::Corpus>(connection_, &Stub::CreateCorpus, request);
}

absl::StatusOr<v1::Corpus> SecateurClient::GetCorpus(const std::string& name) const {
  return Unary(*connection_, *connection_->secateur, &Stub::GetCorpus,
               Named<v1::GetCorpusRequest>(name));
}

absl::StatusOr<std::vector<v1::Corpus>> SecateurClient::ListCorpora(
    const std::string& filter) const {
  v1::ListCorporaRequest request;
  request.set_filter(filter);
  return List(*connection_, &Stub::ListCorpora, &v1::ListCorporaResponse::mutable_corpora, request);
}

absl::StatusOr<v1::Corpus> SecateurClient::UpdateCorpus(
    const v1::UpdateCorpusRequest& request) const {
  return Unary(*connection_, *connection_->secateur, &Stub::UpdateCorpus, request);
}

absl::Status SecateurClient::DeleteCorpus(const v1::DeleteCorpusRequest& request) const {
  return Unary(*connection_, *connection_->secateur, &Stub::DeleteCorpus, request).status();
}

absl::StatusOr<PendingOperation<v1::CreateProfileResponse>> SecateurClient::CreateProfile(
    const v1::CreateProfileRequest& request) const {
  return Start<v1::CreateProfileResponse>(connection_, &Stub::CreateProfile, request);
}

absl::StatusOr<v1::Profile> SecateurClient::GetProfile(const std::string& name) const {
  return Unary(*connection_, *connection_->secateur, &Stub::GetProfile,
               Named<v1::GetProfileRequest>(name));
}

absl::StatusOr<std::vector<v1::Profile>> SecateurClient::ListProfiles(
    const std::string& model) const {
  return List(*connection_, &Stub::ListProfiles, &v1::ListProfilesResponse::mutable_profiles,
              Under<v1::ListProfilesRequest>(model));
}

absl::Status SecateurClient::DeleteProfile(const std::string& name) const {
  return Unary(*connection_, *connection_->secateur, &Stub::DeleteProfile,
               Named<v1::DeleteProfileRequest>(name))
      .status();
}

absl::StatusOr<std::vector<v1::Dimension>> SecateurClient::ListDimensions(
    const std::string& model) const {
  return List(*connection_, &Stub::ListDimensions, &v1::ListDimensionsResponse::mutable_dimensions,
              Under<v1::ListDimensionsRequest>(model));
}

absl::StatusOr<v1::CompareDimensionsResponse> SecateurClient::CompareDimensions(
    const v1::CompareDimensionsRequest& request) const {
  return Unary(*connection_, *connection_->secateur, &Stub::CompareDimensions, request);
}

absl::StatusOr<v1::PlanExpertResponse> SecateurClient::PlanExpert(
    const v1::PlanExpertRequest& request) const {
  const absl::Duration limit =
      std::max(connection_->options.deadline, LeastPlanTime(request.spec()));
  return Unary(*connection_, *connection_->secateur, &Stub::PlanExpert, request,
               absl::Now() + limit);
}

absl::StatusOr<PendingOperation<v1::Expert>> SecateurClient::CreateExpert(
    const v1::CreateExpertRequest& request) const {
  return Start<v1::Expert>(
      connection_, &Stub::CreateExpert, request,
      request.validate_only() ? LeastPlanTime(request.spec()) : absl::ZeroDuration());
}

absl::StatusOr<PendingOperation<v1::EvaluateExpertResponse>> SecateurClient::EvaluateExpert(
    const v1::EvaluateExpertRequest& request) const {
  return Start<v1::EvaluateExpertResponse>(connection_, &Stub::EvaluateExpert, request);
}

absl::StatusOr<v1::Expert> SecateurClient::GetExpert(const std::string& name) const {
  return Unary(*connection_, *connection_->secateur, &Stub::GetExpert,
               Named<v1::GetExpertRequest>(name));
}

absl::StatusOr<std::vector<v1::Expert>> SecateurClient::ListExperts(
    const std::string& model) const {
  return List(*connection_, &Stub::ListExperts, &v1::ListExpertsResponse::mutable_experts,
              Under<v1::ListExpertsRequest>(model));
}

absl::Status SecateurClient::DeleteExpert(const std::string& name) const {
  return Unary(*connection_, *connection_->secateur, &Stub::DeleteExpert,
               Named<v1::DeleteExpertRequest>(name))
      .status();
}

absl::Status SecateurClient::DownloadExpertFile(const std::string& expert,
                                                const v1::ExpertFile& file,
                                                const std::string& folder,
                                                const ExpertProgress& progress) const {
  const auto report = [&](int64_t done, int64_t total) {
    if (progress) progress(file.name(), done, total);
  };
  return DownloadFile(*connection_, expert, file, folder, report);
}

absl::Status SecateurClient::DownloadExpert(const v1::Expert& expert, const std::string& folder,
                                            const ExpertProgress& progress) const {
  std::vector<v1::ExpertFile> files(expert.files().begin(), expert.files().end());
  std::stable_partition(files.begin(), files.end(),
                        [](const v1::ExpertFile& file) { return file.name() != "secateur.json"; });
  for (const v1::ExpertFile& file : files) {
    absl::Status status = DownloadExpertFile(expert.name(), file, folder, progress);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<google::longrunning::Operation>> SecateurClient::ListOperations(
    const std::string& filter) const {
  google::longrunning::ListOperationsRequest request;
  request.set_name("operations");
  request.set_filter(filter);
  return AllPages<google::longrunning::Operation>(
      request,
      [this](const auto& page) {
        return Unary(*connection_, *connection_->operations, &OperationsStub::ListOperations, page);
      },
      [](auto& response) { return response.mutable_operations(); });
}

absl::Status SecateurClient::DeleteOperation(const std::string& name) const {
  return Unary(*connection_, *connection_->operations, &OperationsStub::DeleteOperation,
               Named<google::longrunning::DeleteOperationRequest>(name))
      .status();
}

OperationHandle SecateurClient::AttachOperation(const std::string& name) const {
  google::longrunning::Operation operation;
  operation.set_name(name);
  return OperationHandle(connection_, std::move(operation));
}

}  // namespace secateur
