// Reading a stored corpus back: line by line, against its digest.
#include <algorithm>
#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/corpus/corpus_store.h"
#include "server/corpus/json_document.h"

namespace secateur {
namespace {

constexpr int64_t kReadBytes = 1 << 20;

using Visit = std::function<absl::Status(Document)>;

absl::Status Damaged(const CorpusInfo& info, std::string_view reason) {
  const std::string name = StrCat("corpora/", info.id());
  return WithResource(
      absl::DataLossError(StrCat("the stored documents of ", name, " are damaged: ", reason,
                                 "; delete the corpus and upload it again")),
      kCorpusResource, name);
}

class DocumentReader {
 public:
  DocumentReader(const CorpusInfo& info, const Visit& visit) : info_(info), visit_(visit) {}

  absl::Status Append(std::string_view chunk) {
    digest_.Update(chunk);
    while (true) {
      const size_t end = chunk.find('\n');
      partial_ += chunk.substr(0, end);
      if (end == std::string_view::npos) return absl::OkStatus();
      RETURN_IF_ERROR(Line());
      chunk.remove_prefix(end + 1);
    }
  }

  absl::Status Finish() {
    if (digest_.Finish() == info_.digest) return absl::OkStatus();
    return Damaged(info_, "their SHA-256 is not the corpus's own");
  }

 private:
  absl::Status Line() {
    absl::StatusOr<JsonDocument> line = ParseJsonDocument(partial_);
    if (!line.ok()) return Damaged(info_, ToStd(line.status().message()));
    partial_.clear();
    return visit_(std::move(line->document));
  }

  const CorpusInfo& info_;
  const Visit& visit_;
  Sha256 digest_;
  std::string partial_;
};

}  // namespace

absl::Status CorpusStore::ForEachDocument(const std::string& id, const Visit& visit) const {
  ASSIGN_OR_RETURN(StoredCorpus corpus, Find(id));
  // OK when to read on: a corpus that was deleted and uploaded again has the same bytes elsewhere.
  // Any other object that is missing is damage, unless the corpus was deleted meanwhile.
  const auto follow = [&](const absl::Status& status) -> absl::Status {
    if (!absl::IsNotFound(status)) return status;
    ASSIGN_OR_RETURN(StoredCorpus now, Find(id));
    if (now.documents_key == corpus.documents_key) {
      return Damaged(corpus.info, ToStd(status.message()));
    }
    corpus = std::move(now);
    return absl::OkStatus();
  };
  DocumentReader reader(corpus.info, visit);
  for (int64_t offset = 0;;) {
    const auto chunk = blobs_.Read(corpus.documents_key, offset, kReadBytes);
    if (chunk.ok() && chunk->empty()) return reader.Finish();
    if (chunk.ok()) {
      RETURN_IF_ERROR(reader.Append(*chunk));
      offset += std::ssize(*chunk);
    } else {
      RETURN_IF_ERROR(follow(chunk.status()));
    }
  }
}

}  // namespace secateur
