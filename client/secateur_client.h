// The client of a Secateur server: one method for each RPC, an error as absl::Status (status.h), a
// long operation as a PendingOperation (operation.h). Proto comments say what each RPC does and
// which errors it has. A request that starts an operation gets a request_id where it has none, and
// is sent again while a server that drains or starts says when to come back, 100 ms later at least;
// all tries together have one deadline.
// Thread-safe; cheap to copy; keeps its connection alive.
//
//   auto client = secateur::SecateurClient::Connect({.address = "localhost:8470"});
//   auto operation = client->CreateExpert(request);
//   auto expert = operation->WaitForResult();
//   absl::Status saved = client->DownloadExpert(*expert, "expert", {});
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client_options.h"
#include "client/connection.h"
#include "client/operation.h"
#include "secateur/v1/secateur.pb.h"

namespace secateur {

// Writes up to `capacity` (at least 1) bytes to `buffer` and returns how many; 0 at the end.
using ByteSource = std::function<absl::StatusOr<size_t>(char* buffer, size_t capacity)>;
// Name of the file that is coming, its bytes so far, and all it has.
using ExpertProgress = std::function<void(const std::string& file, int64_t done, int64_t total)>;

class SecateurClient {
 public:
  // Checks the options; connects with the first call. Errors: see OpenConnection.
  static absl::StatusOr<SecateurClient> Connect(const ClientOptions& options = {});
  explicit SecateurClient(std::shared_ptr<const ClientConnection> connection)
      : connection_(std::move(connection)) {}

  const std::string& address() const { return connection_->options.address; }

  absl::StatusOr<v1::Model> GetModel(const std::string& name) const;
  // The lists follow all pages.
  absl::StatusOr<std::vector<v1::Model>> ListModels() const;

  // Streams `source` in chunks of at most 1 MiB. Ends early, with the corpus, when the server knows
  // `metadata.corpus.digest`. An error of `source` cancels the upload and is returned.
  absl::StatusOr<v1::UploadCorpusResponse> UploadCorpus(const v1::UploadCorpusMetadata& metadata,
                                                        const ByteSource& source) const;
  absl::StatusOr<PendingOperation<v1::Corpus>> CreateCorpus(
      const v1::CreateCorpusRequest& request) const;
  absl::StatusOr<v1::Corpus> GetCorpus(const std::string& name) const;
  absl::StatusOr<std::vector<v1::Corpus>> ListCorpora(const std::string& filter = "") const;
  absl::StatusOr<v1::Corpus> UpdateCorpus(const v1::UpdateCorpusRequest& request) const;
  absl::Status DeleteCorpus(const v1::DeleteCorpusRequest& request) const;

  absl::StatusOr<PendingOperation<v1::CreateProfileResponse>> CreateProfile(
      const v1::CreateProfileRequest& request) const;
  absl::StatusOr<v1::Profile> GetProfile(const std::string& name) const;
  absl::StatusOr<std::vector<v1::Profile>> ListProfiles(const std::string& model) const;
  absl::Status DeleteProfile(const std::string& name) const;
  absl::StatusOr<std::vector<v1::Dimension>> ListDimensions(const std::string& model) const;
  absl::StatusOr<v1::CompareDimensionsResponse> CompareDimensions(
      const v1::CompareDimensionsRequest& request) const;

  absl::StatusOr<v1::PlanExpertResponse> PlanExpert(const v1::PlanExpertRequest& request) const;
  absl::StatusOr<PendingOperation<v1::Expert>> CreateExpert(
      const v1::CreateExpertRequest& request) const;
  absl::StatusOr<PendingOperation<v1::EvaluateExpertResponse>> EvaluateExpert(
      const v1::EvaluateExpertRequest& request) const;
  absl::StatusOr<v1::Expert> GetExpert(const std::string& name) const;
  absl::StatusOr<std::vector<v1::Expert>> ListExperts(const std::string& model) const;
  absl::Status DeleteExpert(const std::string& name) const;

  // One file of an expert, verified; see download.h for errors and for what a repeat does.
  absl::Status DownloadExpertFile(const std::string& expert, const v1::ExpertFile& file,
                                  const std::string& folder,
                                  const ExpertProgress& progress = {}) const;
  // All files of `expert`, the manifest last: a folder with a manifest is complete.
  absl::Status DownloadExpert(const v1::Expert& expert, const std::string& folder,
                              const ExpertProgress& progress = {}) const;

  // google.longrunning.Operations. WatchOperation is OperationHandle::Wait. Newest first; the
  // server takes no filter yet: any but "" is UNIMPLEMENTED.
  absl::StatusOr<std::vector<google::longrunning::Operation>> ListOperations(
      const std::string& filter = "") const;
  // Drops a finished operation from the server's list.
  absl::Status DeleteOperation(const std::string& name) const;
  // A handle on an operation that is known by name. Makes no call.
  OperationHandle AttachOperation(const std::string& name) const;

 private:
  std::shared_ptr<const ClientConnection> connection_;
};

}  // namespace secateur
