// Keeps corpora in a BlobStore and finds them.
//
// Layout under the tenant's root: documents (canonical lines) at `uploads/<unique>.jsonl`, and
// `corpora/<id>/meta-<generation, 8 digits>.json` which names them (corpus_meta.h); a corpus exists
// if and only if a meta object does, the highest generation counts. Documents are checked against
// the corpus digest every time they are read. Thread-safe; calls may block on the store.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/corpus/corpus.h"
#include "server/corpus/corpus_meta.h"
#include "server/corpus/reader.h"
#include "server/storage/blob_store.h"

namespace secateur {

// For error notes (base/errors.h).
inline constexpr std::string_view kCorpusResource = "secateur.dev/Corpus";

class CorpusStore;

// An upload under way: bytes in, a corpus out; nothing is left behind when it is destroyed early.
// One thread at a time; the store must outlive it.
class CorpusUpload {
 public:
  // As CorpusParser::Append, and what the store says.
  absl::Status Append(std::string_view chunk);
  struct Result {
    CorpusInfo corpus;
    bool existed = false;  // same documents, labels and purpose were here before
  };
  // Once, after the last Append. ALREADY_EXISTS when the same documents are here under other labels
  // or purpose; the message names both sets. As CorpusParser::Finish else.
  absl::StatusOr<Result> Finish();

 private:
  friend class CorpusStore;
  CorpusUpload(CorpusStore& store, CorpusInfo info, CorpusFormat format, CorpusLimits limits);
  absl::Status Write(const Document& document);

  CorpusStore& store_;
  CorpusInfo info_;
  std::string documents_key_;
  Sha256 digest_;
  std::unique_ptr<BlobWriter> writer_;  // null when finished
  std::unique_ptr<CorpusParser> parser_;
};

struct CorpusFilter {
  Labels labels;  // all must match
  std::optional<CorpusPurpose> purpose;
};

class CorpusStore {
 public:
  // `blobs` and `clock` must outlive the store.
  CorpusStore(BlobStore& blobs, const Clock& clock, CorpusLimits limits = {});

  // Reads every meta object, so that Find and List answer from memory, and deletes documents that
  // no meta object names for a day. Call once before the rest. DATA_LOSS for a damaged meta object,
  // FAILED_PRECONDITION for one of a newer format; both name it.
  absl::Status Load();
  // Makes known what other servers on the store have added, changed and removed since. As Load().
  absl::Status Refresh();

  // `labels`, `purpose`, `display_name` of the corpus to be; the rest is filled in. A `digest`
  // other than zero announces the content: Finish() refuses any other with INVALID_ARGUMENT.
  // INVALID_ARGUMENT for bad labels or a display name that is too long or not UTF-8.
  absl::StatusOr<std::unique_ptr<CorpusUpload>> StartUpload(CorpusInfo info, CorpusFormat format);

  // Also one that another server has just added. NOT_FOUND naming the id.
  absl::StatusOr<CorpusInfo> Get(const std::string& id) const;
  // Sorted by id.
  std::vector<CorpusInfo> List(const CorpusFilter& filter) const;
  // ABORTED when `expected_generation` is given and not the current one. Equal labels change
  // nothing.
  absl::StatusOr<CorpusInfo> UpdateLabels(const std::string& id, const Labels& labels,
                                          std::optional<int64_t> expected_generation);
  absl::Status Delete(const std::string& id);

  // Calls `visit` for each document in order. DATA_LOSS when the bytes do not match the digest:
  // the visits made before that must then be discarded by the caller. An error of `visit` ends it.
  absl::Status ForEachDocument(const std::string& id,
                               const std::function<absl::Status(Document)>& visit) const;

 private:
  friend class CorpusUpload;

  absl::StatusOr<StoredCorpus> Find(const std::string& id) const;
  void Remember(StoredCorpus corpus) const;
  absl::StatusOr<StoredCorpus> ReadMeta(const std::string& key) const;
  // Another server's corpus or change, which this one has not seen.
  absl::StatusOr<StoredCorpus> ReadNewestMeta(const std::string& id) const;
  absl::Status DeleteForgottenDocuments();
  absl::StatusOr<CorpusUpload::Result> Publish(CorpusInfo info, const std::string& documents_key);

  BlobStore& blobs_;
  const Clock& clock_;
  const CorpusLimits limits_;
  // Held while meta objects are written or deleted; taken before `mutex_`, which is never held
  // while the store works.
  mutable Mutex change_mutex_;
  mutable Mutex mutex_;
  mutable std::map<std::string, StoredCorpus> corpora_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace secateur
