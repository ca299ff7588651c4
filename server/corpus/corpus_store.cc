#include "server/corpus/corpus_store.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

constexpr size_t kMostDisplayNameBytes = 256;
constexpr int64_t kMostMetaBytes = 64 << 10;
constexpr int64_t kMostGenerations = 99'999'999;  // 8 digits in the key
constexpr int64_t kListLimit = 1000;
constexpr char kCorporaPrefix[] = "corpora/";
constexpr char kUploadsPrefix[] = "uploads/";
// Longer than any upload takes between its documents and its meta object.
constexpr absl::Duration kForgottenAfter = absl::Hours(24);

std::string UniqueDocumentsKey() {
  std::random_device random;
  std::string name;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&name, "%08x", random());
  return StrCat(kUploadsPrefix, name, ".jsonl");
}

absl::Status CheckDisplayName(const std::string& name) {
  if (name.size() > kMostDisplayNameBytes) {
    return absl::InvalidArgumentError(StrCat("display_name has ", name.size(), " bytes, at most ",
                                             kMostDisplayNameBytes, " are allowed"));
  }
  if (const auto bad = FirstInvalidUtf8(name); bad.has_value()) {
    return absl::InvalidArgumentError(StrCat("display_name is not UTF-8 at byte ", *bad));
  }
  return absl::OkStatus();
}

absl::Status NotFound(const std::string& id) {
  const std::string name = kCorporaPrefix + id;
  return WithResource(absl::NotFoundError(StrCat("there is no corpus ", Quoted(name))),
                      kCorpusResource, name);
}

// Calls `visit` for every object under `prefix`, in key order.
absl::Status ForEachObject(BlobStore& blobs, const std::string& prefix,
                           const std::function<absl::Status(const BlobInfo&)>& visit) {
  std::string last;
  while (true) {
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> page, blobs.List(prefix, last, kListLimit));
    for (const BlobInfo& blob : page) RETURN_IF_ERROR(visit(blob));
    if (static_cast<int64_t>(page.size()) < kListLimit) return absl::OkStatus();
    last = page.back().key;
  }
}

// The keys of an id's meta objects, oldest first.
absl::StatusOr<std::vector<std::string>> MetaKeys(BlobStore& blobs, const std::string& id) {
  std::vector<std::string> keys;
  RETURN_IF_ERROR(
      ForEachObject(blobs, StrCat(kCorporaPrefix, id, "/meta-"), [&](const BlobInfo& blob) {
        keys.push_back(blob.key);
        return absl::OkStatus();
      }));
  return keys;
}

absl::Status ChangedElsewhere(const std::string& id) {
  return absl::AbortedError(
      StrCat("corpora/", id, " was changed by another server: get it and try again"));
}

bool Matches(const CorpusInfo& info, const CorpusFilter& filter) {
  if (filter.purpose.has_value() && info.purpose != *filter.purpose) return false;
  return std::all_of(filter.labels.begin(), filter.labels.end(), [&](const auto& wanted) {
    const auto label = info.labels.find(wanted.first);
    return label != info.labels.end() && label->second == wanted.second;
  });
}

}  // namespace

CorpusStore::CorpusStore(BlobStore& blobs, const Clock& clock, CorpusLimits limits)
    : blobs_(blobs), clock_(clock), limits_(limits) {}

absl::Status CorpusStore::Load() {
  RETURN_IF_ERROR(Refresh());
  return DeleteForgottenDocuments();
}

absl::Status CorpusStore::Refresh() {
  MutexLock changing(change_mutex_);
  std::map<std::string, std::string> newest;  // by folder: the last key in key order
  RETURN_IF_ERROR(ForEachObject(blobs_, kCorporaPrefix, [&](const BlobInfo& blob) {
    newest[blob.key.substr(0, blob.key.rfind('/'))] = blob.key;
    return absl::OkStatus();
  }));
  std::map<std::string, std::string> known;
  {
    MutexLock lock(mutex_);
    std::erase_if(corpora_, [&newest](const auto& entry) {
      return !newest.contains(StrCat(kCorporaPrefix, entry.first));
    });
    for (const auto& [id, corpus] : corpora_) {
      known[StrCat(kCorporaPrefix, id)] = MetaKey(id, corpus.info.generation);
    }
  }
  for (const auto& [folder, key] : newest) {
    const auto same = known.find(folder);
    if (same != known.end() && same->second == key) continue;
    absl::StatusOr<StoredCorpus> corpus = ReadMeta(key);
    if (absl::IsNotFound(corpus.status())) continue;  // changed or removed right now
    RETURN_IF_ERROR(corpus.status());
    Remember(*std::move(corpus));
  }
  return absl::OkStatus();
}

absl::Status CorpusStore::DeleteForgottenDocuments() {
  std::set<std::string> named;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, corpus] : corpora_) named.insert(corpus.documents_key);
  }
  const absl::Time before = clock_.Now() - kForgottenAfter;
  std::vector<std::string> forgotten;
  RETURN_IF_ERROR(ForEachObject(blobs_, kUploadsPrefix, [&](const BlobInfo& blob) {
    if (blob.modified < before && !named.contains(blob.key)) forgotten.push_back(blob.key);
    return absl::OkStatus();
  }));
  for (const std::string& key : forgotten) RETURN_IF_ERROR(blobs_.Delete(key));
  return absl::OkStatus();
}

absl::StatusOr<StoredCorpus> CorpusStore::ReadMeta(const std::string& key) const {
  ASSIGN_OR_RETURN(const std::string bytes, blobs_.ReadAll(key, kMostMetaBytes));
  absl::StatusOr<StoredCorpus> corpus = DecodeMeta(bytes);
  if (corpus.ok() && key != MetaKey(corpus->info.id(), corpus->info.generation)) {
    corpus = absl::DataLossError("it belongs under another key");
  }
  if (corpus.ok()) return corpus;
  return Annotate(corpus.status(), StrCat("the object ", key, " in ", blobs_.uri()));
}

absl::StatusOr<StoredCorpus> CorpusStore::ReadNewestMeta(const std::string& id) const {
  ASSIGN_OR_RETURN(const std::vector<std::string> keys, MetaKeys(blobs_, id));
  if (keys.empty()) return NotFound(id);
  ASSIGN_OR_RETURN(StoredCorpus corpus, ReadMeta(keys.back()));
  Remember(corpus);
  return corpus;
}

absl::StatusOr<StoredCorpus> CorpusStore::Find(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = corpora_.find(id);
  if (found == corpora_.end()) return NotFound(id);
  return found->second;
}

void CorpusStore::Remember(StoredCorpus corpus) const {
  MutexLock lock(mutex_);
  corpora_[corpus.info.id()] = std::move(corpus);
}

absl::StatusOr<std::unique_ptr<CorpusUpload>> CorpusStore::StartUpload(CorpusInfo info,
                                                                       CorpusFormat format) {
  RETURN_IF_ERROR(CheckLabels(info.labels));
  RETURN_IF_ERROR(CheckDisplayName(info.display_name));
  info.documents = info.bytes = info.dropped_fields = 0;
  std::unique_ptr<CorpusUpload> upload(new CorpusUpload(*this, std::move(info), format, limits_));
  upload->documents_key_ = UniqueDocumentsKey();
  ASSIGN_OR_RETURN(upload->writer_, blobs_.Create(upload->documents_key_));
  return upload;
}

absl::StatusOr<CorpusInfo> CorpusStore::Get(const std::string& id) const {
  absl::StatusOr<StoredCorpus> corpus = Find(id);
  if (!corpus.ok()) {
    MutexLock changing(change_mutex_);
    corpus = ReadNewestMeta(id);
  }
  RETURN_IF_ERROR(corpus.status());
  return std::move(corpus->info);
}

std::vector<CorpusInfo> CorpusStore::List(const CorpusFilter& filter) const {
  MutexLock lock(mutex_);
  std::vector<CorpusInfo> found;
  for (const auto& [id, corpus] : corpora_) {
    if (Matches(corpus.info, filter)) found.push_back(corpus.info);
  }
  return found;
}

absl::StatusOr<CorpusInfo> CorpusStore::UpdateLabels(const std::string& id, const Labels& labels,
                                                     std::optional<int64_t> expected_generation) {
  RETURN_IF_ERROR(CheckLabels(labels));
  MutexLock changing(change_mutex_);
  ASSIGN_OR_RETURN(StoredCorpus corpus, Find(id));
  const int64_t generation = corpus.info.generation;
  if (expected_generation.value_or(generation) != generation) {
    return absl::AbortedError(StrCat("corpora/", id, " is at generation ", generation, ", not ",
                                     *expected_generation, ": get it and try again"));
  }
  if (corpus.info.labels == labels) return std::move(corpus.info);
  if (generation == kMostGenerations) {
    return absl::FailedPreconditionError(StrCat("corpora/", id, " cannot be changed any more"));
  }
  corpus.info.labels = labels;
  ++corpus.info.generation;
  const auto receipt = blobs_.Put(MetaKey(id, corpus.info.generation), EncodeMeta(corpus));
  if (absl::IsAlreadyExists(receipt.status())) {
    RETURN_IF_ERROR(ReadNewestMeta(id).status());
    return ChangedElsewhere(id);
  }
  RETURN_IF_ERROR(receipt.status());
  // The key is free again once others have gone two generations on from what we know.
  ASSIGN_OR_RETURN(const std::vector<std::string> keys, MetaKeys(blobs_, id));
  if (keys.empty() || keys.back() != MetaKey(id, corpus.info.generation)) {
    blobs_.Delete(MetaKey(id, corpus.info.generation)).IgnoreError();  // the newer one counts
    RETURN_IF_ERROR(ReadNewestMeta(id).status());
    return ChangedElsewhere(id);
  }
  Remember(corpus);
  // Best effort: the newer one counts also when the older one stays.
  blobs_.Delete(MetaKey(id, generation)).IgnoreError();
  return std::move(corpus.info);
}

absl::Status CorpusStore::Delete(const std::string& id) {
  MutexLock changing(change_mutex_);
  ASSIGN_OR_RETURN(const StoredCorpus corpus, Find(id));
  ASSIGN_OR_RETURN(const std::vector<std::string> keys, MetaKeys(blobs_, id));
  // The newest last: after an interruption the corpus is whole or gone, never back at old labels.
  for (const std::string& key : keys) RETURN_IF_ERROR(blobs_.Delete(key));
  {
    MutexLock lock(mutex_);
    corpora_.erase(id);
  }
  return blobs_.Delete(corpus.documents_key);
}

}  // namespace secateur
