// DownloadExpertFile: a server stream. One chunk at a time is read, and the next when gRPC has
// taken it: a slow client holds one chunk of memory.
#include <algorithm>
#include <optional>
#include <utility>

#include "server/base/digest.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/find_expert.h"
#include "server/service/secateur_service.h"

namespace secateur {
namespace {

constexpr int64_t kChunk = 1 << 20;

class DownloadReactor final : public grpc::ServerWriteReactor<v1::DownloadExpertFileResponse> {
 public:
  DownloadReactor(ServiceParts parts, const v1::DownloadExpertFileRequest* request)
      : parts_(parts), request_(request), start_(absl::Now()) {
    Next([this] { return Open(); });
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return End(absl::CancelledError("the client went away"));
    Next([this] { return ReadOn(); });
  }
  void OnDone() override { delete this; }

 private:
  // `step` fills message_, or leaves it empty at the end.
  void Next(std::function<absl::Status()> step) {
    const bool posted = parts_.calls.Post([this, step = std::move(step)] {
      hand_over_.Receive();
      message_.Clear();
      const absl::Status status = step();
      if (!status.ok() ||
          message_.payload_case() == v1::DownloadExpertFileResponse::PAYLOAD_NOT_SET) {
        return End(status);
      }
      hand_over_.Leave();
      StartWrite(&message_);
    });
    if (!posted) End(CallRunner::Overloaded());
  }

  absl::Status Open() {
    RETURN_IF_ERROR(CheckAllFieldsKnown(*request_));
    ASSIGN_OR_RETURN(FoundExpert found, FindExpertByName(parts_, request_->name()));
    const auto& files = found.proto.files();
    const auto file = std::find_if(files.begin(), files.end(), [this](const v1::ExpertFile& f) {
      return f.name() == request_->file();
    });
    if (file == files.end()) {
      return WithField(absl::NotFoundError(StrCat(request_->name(), " has no file \"",
                                                  request_->file().substr(0, 128),
                                                  "\"; Expert.files lists them")),
                       "file");
    }
    if (request_->offset() < 0 || request_->offset() > file->size_bytes()) {
      return WithField(absl::OutOfRangeError(StrCat("offset ", request_->offset(), " is not 0 to ",
                                                    file->size_bytes(), ", the size of the file")),
                       "offset");
    }
    expert_ = std::move(found.stored);
    file_ = *file;
    at_ = request_->offset();
    *message_.mutable_file() = file_;
    return absl::OkStatus();
  }

  absl::Status ReadOn() {
    if (at_ == file_.size_bytes()) return CheckDigest();
    ASSIGN_OR_RETURN(*message_.mutable_data(),
                     parts_.stores.experts.ReadFile(*expert_, file_.name(), at_,
                                                    std::min(kChunk, file_.size_bytes() - at_)));
    if (message_.data().empty()) {
      return absl::DataLossError(StrCat(file_.name(), " is shorter than its manifest says"));
    }
    digest_.Update(message_.data());
    at_ += static_cast<int64_t>(message_.data().size());
    return absl::OkStatus();
  }

  // Known only when the file was read from its beginning.
  absl::Status CheckDigest() {
    if (request_->offset() != 0 || digest_.Finish().Hex() == file_.sha256())
      return absl::OkStatus();
    parts_.stores.metrics.CountCorruptObject("expert_file");
    return WithResource(absl::DataLossError(StrCat(
                            file_.name(), " of ", request_->name(),
                            " does not match its digest: delete the expert and make it again")),
                        "secateur.dev/Expert", request_->name());
  }

  void End(const absl::Status& status) {
    parts_.calls.Count("DownloadExpertFile", status, start_);
    Finish(ToGrpcStatus(status));
  }

  const ServiceParts parts_;
  const v1::DownloadExpertFileRequest* const request_;
  const absl::Time start_;
  HandOver hand_over_;
  v1::DownloadExpertFileResponse message_;
  std::optional<StoredExpert> expert_;
  v1::ExpertFile file_;
  int64_t at_ = 0;
  Sha256 digest_;
};

}  // namespace

grpc::ServerWriteReactor<v1::DownloadExpertFileResponse>* SecateurService::DownloadExpertFile(
    Context*, const v1::DownloadExpertFileRequest* request) {
  return new DownloadReactor(parts_, request);
}

}  // namespace secateur
