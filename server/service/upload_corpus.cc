// UploadCorpus: a client stream. Each message is one step on the pool, and the next one is read
// when that step is done: a slow disk slows the sender, nothing piles up here.
#include <memory>
#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/convert.h"
#include "server/service/secateur_service.h"

namespace secateur {
namespace {

class UploadReactor final : public grpc::ServerReadReactor<v1::UploadCorpusRequest> {
 public:
  UploadReactor(ServiceParts parts, v1::UploadCorpusResponse* response)
      : parts_(parts), response_(response), start_(absl::Now()) {
    StartRead(&message_);
  }

  void OnReadDone(bool ok) override {
    if (!parts_.calls.Post([this, ok] { ok ? Step() : End(CutOff()); })) {
      End(CallRunner::Overloaded());
    }
  }
  void OnDone() override { delete this; }

 private:
  static absl::Status CutOff() {
    return absl::InvalidArgumentError(
        "the stream ended without finish: nothing was published; set finish in the last message");
  }

  void Step() {
    hand_over_.Receive();
    const absl::Status status = Take();
    if (!status.ok() || message_.finish() || answered_) return End(status);
    message_.Clear();
    hand_over_.Leave();
    StartRead(&message_);
  }

  absl::Status Take() {
    RETURN_IF_ERROR(CheckAllFieldsKnown(message_));
    if (message_.has_metadata()) RETURN_IF_ERROR(Begin(message_.metadata()));
    if (answered_) return absl::OkStatus();
    if (upload_ == nullptr) {
      return absl::InvalidArgumentError("the first message must carry metadata");
    }
    if (message_.has_data()) RETURN_IF_ERROR(upload_->Append(message_.data()));
    if (message_.finish()) RETURN_IF_ERROR(Finish());
    return absl::OkStatus();
  }

  absl::Status Begin(const v1::UploadCorpusMetadata& metadata) {
    if (upload_ != nullptr) {
      return absl::InvalidArgumentError("metadata stands in the first message alone");
    }
    auto checked = CorpusFromProto(metadata.corpus());
    if (!checked.ok()) {
      return WithField(checked.status(), "metadata." + NotesOf(checked.status()).field);
    }
    CorpusInfo info = *std::move(checked);
    if (!metadata.corpus().digest().empty()) {
      auto digest = Digest::FromHex(metadata.corpus().digest());
      if (!digest.ok()) return WithField(digest.status(), "metadata.corpus.digest");
      info.digest = *digest;
      RETURN_IF_ERROR(AnswerIfKnown(info));
      if (answered_) return absl::OkStatus();
    }
    RETURN_IF_ERROR(parts_.stores.blobs.CheckRoom());
    ASSIGN_OR_RETURN(upload_, parts_.stores.corpora.StartUpload(
                                  info, metadata.format() == v1::TEXT ? CorpusFormat::kText
                                                                      : CorpusFormat::kJsonLines));
    return absl::OkStatus();
  }

  absl::Status AnswerIfKnown(const CorpusInfo& info) {
    const auto known = parts_.stores.corpora.Get(info.id());
    if (!known.ok() || known->labels != info.labels || known->purpose != info.purpose) {
      return absl::OkStatus();
    }
    *response_->mutable_corpus() = ToProto(*known);
    response_->set_existed(true);
    answered_ = true;
    return absl::OkStatus();
  }

  absl::Status Finish() {
    ASSIGN_OR_RETURN(const CorpusUpload::Result result, upload_->Finish());
    *response_->mutable_corpus() = ToProto(result.corpus);
    response_->set_existed(result.existed);
    return absl::OkStatus();
  }

  // Removes what was written: on the pool, unless that is full.
  void End(const absl::Status& status) {
    hand_over_.Receive();
    upload_.reset();
    parts_.calls.Count("UploadCorpus", status, start_);
    grpc::ServerReadReactor<v1::UploadCorpusRequest>::Finish(ToGrpcStatus(status));
  }

  const ServiceParts parts_;
  v1::UploadCorpusResponse* const response_;
  const absl::Time start_;
  HandOver hand_over_;
  v1::UploadCorpusRequest message_;
  std::unique_ptr<CorpusUpload> upload_;
  bool answered_ = false;
};

}  // namespace

grpc::ServerReadReactor<v1::UploadCorpusRequest>* SecateurService::UploadCorpus(
    Context*, v1::UploadCorpusResponse* response) {
  return new UploadReactor(parts_, response);
}

}  // namespace secateur
