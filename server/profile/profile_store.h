// Keeps profiles in a BlobStore and finds them by what they were made from.
//
// Key: the SHA-256 of ProfileKey's fields. Object: `profiles/<id>/<SHA-256 of its
// bytes>.safetensors`, id = "p" + 40 hex digits of the key. Nothing is overwritten. Bytes that do
// not match the name, or do not parse, are a miss: counted, deleted, never used; files of another
// format are left alone: servers of several versions may share a store. When one id has several
// objects the latest counts. FORMAT.md describes the file. Thread-safe.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/digest.h"
#include "server/base/mutex.h"
#include "server/metrics/metrics.h"
#include "server/profile/profile.h"
#include "server/profile/profile_key.h"
#include "server/storage/blob_store.h"

namespace secateur {

struct ProfileInfo {
  ProfileKey key;
  Digest content;  // of the stored bytes: experts record it
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t dropped_tokens = 0;
  int64_t bytes = 0;
  absl::Time create_time;

  std::string id() const { return key.id(); }
};

class ProfileStore {
 public:
  // Both must outlive the store.
  ProfileStore(BlobStore& blobs, Metrics& metrics);
  // Reads the header of every stored profile, so that Find and List answer from memory.
  // Later it makes known what other servers on the store have added and removed since.
  absl::Status Load();

  std::optional<ProfileInfo> Find(const std::string& id) const;
  std::vector<ProfileInfo> List() const;  // sorted by id
  // NOT_FOUND when there is none or its bytes turned out corrupt (then it is gone: make it again).
  absl::StatusOr<Profile> Read(const std::string& id) const;
  // Returns what Find gives afterwards. INVALID_ARGUMENT for a profile without documents.
  absl::StatusOr<ProfileInfo> Put(const ProfileKey& key, const Profile& profile);
  absl::Status Delete(const std::string& id);  // OK also when there is none

 private:
  // The later of `info` and what is known under its id; that is kept.
  ProfileInfo Remember(const ProfileInfo& info);
  void Forget(const ProfileInfo& info) const;
  // Whether the object has the content it should have; a corrupt one is refused.
  bool Holds(const ProfileInfo& info, const std::string& object) const;
  // Counts, logs and deletes an object that cannot be used, unless its format is newer than ours.
  void Refuse(const std::string& object, const absl::Status& reason) const;

  BlobStore& blobs_;
  Metrics& metrics_;
  // Held while objects are written or deleted; taken before `mutex_`, which is never held while the
  // store works.
  Mutex change_mutex_;
  mutable Mutex mutex_;
  mutable std::map<std::string, ProfileInfo> profiles_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> seen_ ABSL_GUARDED_BY(mutex_);  // objects that Load() has read
};

}  // namespace secateur
