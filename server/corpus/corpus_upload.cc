#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/crash_point.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/corpus/corpus_store.h"

namespace secateur {
namespace {

std::string Describe(const CorpusInfo& info) {
  return StrCat("labels {", absl::StrJoin(info.labels, ", ", absl::PairFormatter("=")),
                "} and purpose ", PurposeName(info.purpose));
}

// What an upload of `wanted` gets when its documents are here already.
absl::StatusOr<CorpusUpload::Result> Known(const CorpusInfo& here, const CorpusInfo& wanted) {
  if (here.labels == wanted.labels && here.purpose == wanted.purpose) {
    return CorpusUpload::Result{here, /*existed=*/true};
  }
  const std::string name = StrCat("corpora/", here.id());
  return WithResource(
      absl::AlreadyExistsError(StrCat(
          name, " holds the same documents with ", Describe(here), ", asked for were ",
          Describe(wanted), ": change its labels, or delete it first to change its purpose")),
      kCorpusResource, name);
}

}  // namespace

CorpusUpload::CorpusUpload(CorpusStore& store, CorpusInfo info, CorpusFormat format,
                           CorpusLimits limits)
    : store_(store), info_(std::move(info)) {
  parser_ = std::make_unique<CorpusParser>(
      format, limits, [this](const Document& document) { return Write(document); });
}

absl::Status CorpusUpload::Write(const Document& document) {
  const std::string line = CanonicalLine(document);
  digest_.Update(line);
  ++info_.documents;
  info_.bytes += static_cast<int64_t>(document.text.size());
  return writer_->Append(line);
}

absl::Status CorpusUpload::Append(std::string_view chunk) {
  if (writer_ == nullptr) return absl::FailedPreconditionError("the upload is finished");
  return parser_->Append(chunk);
}

absl::StatusOr<CorpusUpload::Result> CorpusUpload::Finish() {
  if (writer_ == nullptr) return absl::FailedPreconditionError("the upload is finished");
  const absl::Status parsed = parser_->Finish();  // may write the last document
  const std::unique_ptr<BlobWriter> writer = std::move(writer_);
  RETURN_IF_ERROR(parsed);
  const Digest announced = info_.digest;
  info_.digest = digest_.Finish();
  if (announced != Digest{} && announced != info_.digest) {
    return WithField(absl::InvalidArgumentError(
                         StrCat("the documents have the digest ", info_.digest.Hex(), ", not ",
                                announced.Hex(), " as announced: nothing was stored")),
                     "metadata.corpus.digest");
  }
  info_.dropped_fields = parser_->dropped_fields();
  info_.generation = 1;
  info_.create_time = store_.clock_.Now();
  if (const auto here = store_.Find(info_.id()); here.ok()) return Known(here->info, info_);
  ASSIGN_OR_RETURN(const BlobReceipt receipt, writer->Commit());
  if (receipt.digest != info_.digest) {
    return absl::DataLossError(
        StrCat(store_.blobs_.uri(), " did not keep the bytes of ", documents_key_));
  }
  CrashPoint("corpus.before_meta");
  if (SeededBug("meta_without_documents")) {
    RETURN_IF_ERROR(store_.blobs_.Delete(documents_key_));
  }
  return store_.Publish(info_, documents_key_);
}

absl::StatusOr<CorpusUpload::Result> CorpusStore::Publish(CorpusInfo info,
                                                          const std::string& documents_key) {
  const std::string id = info.id();
  MutexLock changing(change_mutex_);
  absl::StatusOr<StoredCorpus> here = Find(id);
  if (!here.ok()) {
    const StoredCorpus corpus{info, documents_key};
    const auto receipt = blobs_.Put(MetaKey(id, info.generation), EncodeMeta(corpus));
    if (receipt.ok()) {
      Remember(corpus);
      return CorpusUpload::Result{std::move(info), /*existed=*/false};
    }
    // After any other error the meta object may yet turn out to be there: its documents stay, and
    // are deleted by a later Load() if nothing names them.
    if (!absl::IsAlreadyExists(receipt.status())) return receipt.status();
    here = ReadNewestMeta(id);
    RETURN_IF_ERROR(here.status());
  }
  blobs_.Delete(documents_key).IgnoreError();  // as above
  return Known(here->info, info);
}

}  // namespace secateur
