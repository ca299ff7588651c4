// Keeps experts in a BlobStore and finds them.
//
// Layout: `experts/<id>/<attempt>/<file>`, <attempt> unique for each try, its `secateur.json` (the
// manifest) written last: an expert exists if and only if a manifest does. Before it `until-<time>`
// (expiry.h) is written for an expert that is to end. An attempt that ended is as good as none;
// ten minutes later it is removed. Of several attempts the one that lives longest counts, of these
// the first in key order. With a local folder as store, that folder loads as it is. Thread-safe.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/artifact/expiry.h"
#include "server/artifact/hf_layout.h"
#include "server/base/clock.h"
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
  // InfiniteFuture(): it stays until it is deleted.
  absl::Time expire_time = absl::InfiniteFuture();

  int64_t bytes() const;  // of all files, the manifest included
};

class ExpertStore {
 public:
  // Both must outlive the store. Experts end by `clock`.
  explicit ExpertStore(BlobStore& blobs, const Clock& clock = Clock::System());

  // Reads every manifest. An unreadable one is logged and passed over. Later it makes known what
  // other servers on the store have added, extended and removed since. Waits for what publishes or
  // deletes here; calls that come while one reads are answered by the one that begins after them.
  absl::Status Load();

  // Those that have not ended.
  std::optional<StoredExpert> Find(const std::string& id) const;
  std::vector<StoredExpert> List() const;  // sorted by id
  // A new prefix "experts/<id>/<unique>/".
  std::string NewPrefix(const std::string& id) const;
  // Writes the manifest behind its files and makes the expert visible, for `lifetime` from now.
  // ABORTED when a file that it names is gone, DATA_LOSS when one has another size, errors as
  // CheckAhead: then the files under `prefix` are discarded, as they are when the id is visible
  // already, and that expert stays, is extended and returned. When the manifest's write itself
  // fails they stay, for it may land all the same.
  absl::StatusOr<StoredExpert> Publish(const std::string& id, const std::string& prefix,
                                       const std::string& manifest_json,
                                       const Lifetime& lifetime = {});
  // Lets the expert live for `lifetime` from now at least; never shortens its life. Returns it as
  // it is then; NOT_FOUND when it has been deleted, maybe by another server: make it again.
  absl::StatusOr<StoredExpert> Extend(StoredExpert expert, const Lifetime& lifetime);
  // FAILED_PRECONDITION with reason EXPIRED when `lifetime` is over already.
  absl::Status CheckAhead(const Lifetime& lifetime) const;
  // Removes, some at a time, what the last Load() found to have ended ten minutes ago or earlier,
  // so much as clocks of servers may differ, unless it was extended since. `store_now` is a time
  // that has passed by the store's own clock: a clock here that is ahead of it removes nothing.
  absl::Status DeleteExpired(absl::Time store_now);
  // Removes the manifest first, then the files, of every attempt that has one; others may be under
  // way. OK also when there is none.
  absl::Status Delete(const std::string& id);
  // Removes what a failed attempt left, a manifest first.
  void Discard(const std::string& prefix) const;
  const Clock& clock() const { return clock_; }

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
  using Experts = std::map<std::string, StoredExpert>;  // by id

  // The manifest that counts for each id among those of the store that have not ended; takes what
  // is known from `before`, and notes what is to be deleted.
  absl::StatusOr<Experts> ReadAll(const Experts& before)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  // The expert that counts: another than that of `prefix` where the id is visible already.
  absl::StatusOr<StoredExpert> Prepare(const std::string& id, const std::string& prefix,
                                       const std::string& manifest_json, const Lifetime& lifetime);
  absl::Status DeleteIfEnded(const std::string& prefix, absl::Time before);
  // Whether this is the first time that a manifest cannot be read.
  bool FirstTime(const std::string& key);

  BlobStore& blobs_;
  const Clock& clock_;
  // Held while a manifest is written or deleted; taken before `mutex_`, which is never held while
  // the store works.
  Mutex change_mutex_;
  std::set<std::string> ended_ ABSL_GUARDED_BY(change_mutex_);  // prefixes of what is to be deleted
  std::set<std::string> listed_ ABSL_GUARDED_BY(change_mutex_);  // of manifests, by the last Load()
  mutable Mutex mutex_;
  Experts experts_ ABSL_GUARDED_BY(mutex_);
  int64_t load_arrivals_ ABSL_GUARDED_BY(mutex_) = 0;  // calls of Load()
  int64_t loads_covered_ ABSL_GUARDED_BY(mutex_) =
      0;  // those that had come when the last one began
  std::set<std::string> unreadable_ ABSL_GUARDED_BY(mutex_);  // manifests that were logged
};

}  // namespace secateur
