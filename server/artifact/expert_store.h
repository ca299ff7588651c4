// Keeps experts in a BlobStore and finds them.
//
// Layout: `experts/<id>/<attempt>/<file>`, <attempt> unique for each try, its `secateur.json` (the
// manifest) written last: an expert exists if and only if a manifest does (the first attempt in key
// order counts). With a local folder as store, that folder loads as it is. Thread-safe.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/artifact/hf_layout.h"
#include "server/base/mutex.h"
#include "server/base/run_context.h"
#include "server/storage/blob_store.h"

namespace secateur {

inline constexpr std::string_view kManifestName = "secateur.json";

struct StoredExpert {
  std::string id;      // "e" + 40 hex digits
  std::string prefix;  // of its files in the store, ends with '/'
  std::string manifest_json;
  ArtifactFile manifest;            // its own size and digest
  std::vector<ArtifactFile> files;  // all others, from the manifest, sorted by name
  absl::Time create_time;           // the store's time of the manifest

  int64_t bytes() const;  // of all files, the manifest included
};

class ExpertStore {
 public:
  explicit ExpertStore(BlobStore& blobs);  // must outlive the store

  // Reads every manifest. An unreadable one is logged and passed over. Later it makes known what
  // other servers on the store have added and removed since.
  absl::Status Load();

  std::optional<StoredExpert> Find(const std::string& id) const;
  std::vector<StoredExpert> List() const;  // sorted by id
  // A new prefix "experts/<id>/<unique>/".
  std::string NewPrefix(const std::string& id) const;
  // Writes the manifest behind its files and makes the expert visible. ABORTED when a file that it
  // names is gone, DATA_LOSS when one has another size. When the id is visible already, that expert
  // stays and is returned, and the files under `prefix` are discarded.
  absl::StatusOr<StoredExpert> Publish(const std::string& id, const std::string& prefix,
                                       const std::string& manifest_json);
  // Removes the manifest first, then the files, of every attempt that has one; others may be under
  // way. OK also when there is none.
  absl::Status Delete(const std::string& id);
  // Removes what a failed attempt left.
  void Discard(const std::string& prefix) const;

  // `length` bytes of a file from `offset`, at most 1 MiB at once and fewer at the file's end.
  // NOT_FOUND for a file that the manifest does not name, OUT_OF_RANGE, DATA_LOSS when it is
  // shorter than its manifest says.
  absl::StatusOr<std::string> ReadFile(const StoredExpert& expert, const std::string& name,
                                       int64_t offset, int64_t length) const;
  // Copies all files, the manifest last, to the folder of `target` under keys without a prefix,
  // checking each digest before the copy can be seen. Reports "copy" in bytes. OK when the same
  // manifest is there already; files of an earlier copy that did not end are checked and kept.
  // ALREADY_EXISTS when another manifest or file is there; DATA_LOSS for a corrupt source.
  absl::Status CopyTo(const StoredExpert& expert, BlobStore& target, RunContext& context) const;

 private:
  // Whether this is the first time that a manifest cannot be read.
  bool FirstTime(const std::string& key);

  BlobStore& blobs_;
  // Held while a manifest is written or deleted; taken before `mutex_`, which is never held while
  // the store works.
  Mutex change_mutex_;
  mutable Mutex mutex_;
  std::map<std::string, StoredExpert> experts_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> unreadable_ ABSL_GUARDED_BY(mutex_);  // manifests that were logged
};

}  // namespace secateur
