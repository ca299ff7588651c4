#include "server/profile/profile_store.h"

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/crash_point.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/profile/profile_file.h"

namespace secateur {
namespace {

constexpr absl::string_view kRoot = "profiles/";
constexpr absl::string_view kSuffix = ".safetensors";
constexpr int64_t kListPage = 1000;
constexpr int64_t kBeginningBytes = kProfileHeaderLimit + int64_t{sizeof(uint64_t)};

std::string ObjectKey(const std::string& id, const Digest& content) {
  return absl::StrCat(kRoot, id, "/", content.Hex(), kSuffix);
}

struct ObjectName {
  std::string id;
  Digest content;
};

// Nothing for a key that is not of the form above.
std::optional<ObjectName> ParseObjectKey(const std::string& key) {
  absl::string_view rest = key;
  if (!absl::ConsumePrefix(&rest, kRoot) || !absl::ConsumeSuffix(&rest, kSuffix)) {
    return std::nullopt;
  }
  const std::vector<std::string> parts = absl::StrSplit(rest, '/');
  if (parts.size() != 2) return std::nullopt;
  const absl::StatusOr<Digest> content = Digest::FromHex(parts[1]);
  if (!content.ok()) return std::nullopt;
  return ObjectName{.id = parts[0], .content = *content};
}

absl::StatusOr<std::vector<BlobInfo>> ListAll(BlobStore& blobs, const std::string& prefix) {
  std::vector<BlobInfo> all;
  while (true) {
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> page,
                     blobs.List(prefix, all.empty() ? "" : all.back().key, kListPage));
    if (page.empty()) return all;
    all.insert(all.end(), page.begin(), page.end());
  }
}

// What a header says about the object it was found in.
absl::StatusOr<ProfileInfo> ParseInfo(const BlobInfo& blob, const ObjectName& name,
                                      std::string_view beginning) {
  ASSIGN_OR_RETURN(ProfileSummary summary, ReadProfileSummary(blob.key, beginning, blob.size));
  if (summary.key.id() != name.id) {
    return absl::InvalidArgumentError(StrCat(blob.key, " holds the profile ", summary.key.id()));
  }
  return ProfileInfo{.key = std::move(summary.key),
                     .content = name.content,
                     .documents = summary.documents,
                     .tokens = summary.tokens,
                     .dropped_tokens = summary.dropped_tokens,
                     .bytes = blob.size,
                     .create_time = blob.modified};
}

absl::Status CheckContent(const ProfileInfo& info, const std::string& object,
                          std::string_view bytes) {
  const Digest found = Sha256Of(bytes);
  if (found == info.content) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(object, " has bytes of the digest ", found.Hex(), ", not of its name"));
}

absl::StatusOr<Profile> Parse(const ProfileInfo& info, const std::string& object,
                              std::string bytes) {
  RETURN_IF_ERROR(CheckContent(info, object, bytes));
  ASSIGN_OR_RETURN(ProfileFile file, ReadProfile(object, std::move(bytes)));
  if (file.key.digest() != info.key.digest()) {
    return absl::InvalidArgumentError(StrCat(object, " holds the profile ", file.key.id()));
  }
  return std::move(file.profile);
}

absl::StatusOr<Digest> ContentOf(const ProfileKey& key, const Profile& profile) {
  Sha256 hash;
  RETURN_IF_ERROR(WriteProfile(key, profile, [&hash](std::string_view bytes) {
    hash.Update(bytes);
    return absl::OkStatus();
  }));
  return hash.Finish();
}

// ALREADY_EXISTS when the object is there.
absl::Status WriteObject(BlobStore& blobs, const std::string& object, const ProfileKey& key,
                         const Profile& profile) {
  ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer, blobs.Create(object));
  RETURN_IF_ERROR(WriteProfile(
      key, profile, [&writer](std::string_view bytes) { return writer->Append(bytes); }));
  return writer->Commit().status();
}

bool IsLater(const ProfileInfo& a, const ProfileInfo& b) {
  return std::pair(a.create_time, a.content) > std::pair(b.create_time, b.content);
}

absl::Status NoSuchProfile(const std::string& id) {
  return absl::NotFoundError(StrCat("there is no profile ", Quoted(id)));
}

}  // namespace

ProfileStore::ProfileStore(BlobStore& blobs, Metrics& metrics) : blobs_(blobs), metrics_(metrics) {}

absl::Status ProfileStore::Load() {
  MutexLock changing(change_mutex_);
  std::set<std::string> gone;  // of the objects that are known those that are not listed
  for (const ProfileInfo& info : List()) gone.insert(ObjectKey(info.id(), info.content));
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> all, ListAll(blobs_, std::string(kRoot)));
  std::set<std::string> seen;
  {
    MutexLock lock(mutex_);
    for (const BlobInfo& blob : all) {
      if (gone.erase(blob.key) > 0 || seen_.contains(blob.key)) seen.insert(blob.key);
    }
    std::erase_if(profiles_, [&gone](const auto& entry) {
      return gone.contains(ObjectKey(entry.first, entry.second.content));
    });
    seen_ = seen;
  }
  for (const BlobInfo& blob : all) {
    if (seen.contains(blob.key)) continue;
    const std::optional<ObjectName> name = ParseObjectKey(blob.key);
    if (!name) {
      Log(LogLevel::kWarning, "left an object that is no profile alone", {{"key", blob.key}});
      MutexLock lock(mutex_);
      seen_.insert(blob.key);
      continue;
    }
    const absl::StatusOr<std::string> beginning = blobs_.Read(blob.key, 0, kBeginningBytes);
    if (absl::IsNotFound(beginning.status())) continue;  // deleted by another server meanwhile
    RETURN_IF_ERROR(beginning.status());
    const absl::StatusOr<ProfileInfo> info = ParseInfo(blob, *name, *beginning);
    if (info.ok()) {
      Remember(*info);
    } else {
      Refuse(blob.key, info.status());
    }
    MutexLock lock(mutex_);
    seen_.insert(blob.key);
  }
  return absl::OkStatus();
}

std::optional<ProfileInfo> ProfileStore::Find(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = profiles_.find(id);
  if (found == profiles_.end()) return std::nullopt;
  return found->second;
}

std::vector<ProfileInfo> ProfileStore::List() const {
  MutexLock lock(mutex_);
  std::vector<ProfileInfo> all;
  for (const auto& entry : profiles_) all.push_back(entry.second);
  return all;
}

absl::StatusOr<Profile> ProfileStore::Read(const std::string& id) const {
  const std::optional<ProfileInfo> info = Find(id);
  if (!info) return NoSuchProfile(id);
  const std::string object = ObjectKey(id, info->content);
  // One byte more than there should be shows an object that has grown.
  absl::StatusOr<std::string> bytes = blobs_.Read(object, 0, info->bytes + 1);
  if (absl::IsNotFound(bytes.status())) {
    Forget(*info);
    return NoSuchProfile(id);
  }
  RETURN_IF_ERROR(bytes.status());
  absl::StatusOr<Profile> profile = Parse(*info, object, std::move(*bytes));
  if (profile.ok()) return profile;
  Forget(*info);
  Refuse(object, profile.status());
  return absl::NotFoundError(
      StrCat("the stored profile ", Quoted(id), " cannot be used: ", profile.status().message()));
}

absl::StatusOr<ProfileInfo> ProfileStore::Put(const ProfileKey& key, const Profile& profile) {
  ASSIGN_OR_RETURN(const Digest content, ContentOf(key, profile));
  ProfileInfo info{.key = key,
                   .content = content,
                   .documents = profile.documents,
                   .tokens = profile.tokens,
                   .dropped_tokens = profile.dropped_tokens,
                   .bytes = 0,
                   .create_time = {}};
  const std::string object = ObjectKey(info.id(), info.content);
  CrashPoint("profile.before_put");
  absl::Status written = WriteObject(blobs_, object, key, profile);
  CrashPoint("profile.after_put");
  if (absl::IsAlreadyExists(written)) {
    written = Holds(info, object) ? absl::OkStatus() : WriteObject(blobs_, object, key, profile);
  }
  RETURN_IF_ERROR(written);
  MutexLock changing(change_mutex_);
  ASSIGN_OR_RETURN(const BlobInfo blob, blobs_.Head(object));
  info.bytes = blob.size;
  info.create_time = blob.modified;
  return Remember(info);
}

absl::Status ProfileStore::Delete(const std::string& id) {
  MutexLock changing(change_mutex_);
  {
    MutexLock lock(mutex_);
    profiles_.erase(id);
  }
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> objects,
                   ListAll(blobs_, absl::StrCat(kRoot, id, "/")));
  for (const BlobInfo& object : objects) RETURN_IF_ERROR(blobs_.Delete(object.key));
  return absl::OkStatus();
}

ProfileInfo ProfileStore::Remember(const ProfileInfo& info) {
  MutexLock lock(mutex_);
  const auto [entry, added] = profiles_.emplace(info.id(), info);
  if (!added && IsLater(info, entry->second)) entry->second = info;
  return entry->second;
}

void ProfileStore::Forget(const ProfileInfo& info) const {
  MutexLock lock(mutex_);
  const auto found = profiles_.find(info.id());
  if (found != profiles_.end() && found->second.content == info.content) profiles_.erase(found);
}

bool ProfileStore::Holds(const ProfileInfo& info, const std::string& object) const {
  const absl::StatusOr<BlobInfo> blob = blobs_.Head(object);
  if (!blob.ok()) return false;
  const absl::StatusOr<std::string> bytes = blobs_.Read(object, 0, blob->size);
  if (!bytes.ok()) return false;
  const absl::Status content = CheckContent(info, object, *bytes);
  if (!content.ok()) Refuse(object, content);
  return content.ok();
}

void ProfileStore::Refuse(const std::string& object, const absl::Status& reason) const {
  if (absl::IsUnimplemented(reason)) {
    Log(LogLevel::kWarning, "left a profile of another format alone",
        {{"key", object}, {"reason", ToStd(reason.message())}});
    return;
  }
  metrics_.CountCorruptObject("profile");
  const absl::Status deleted = blobs_.Delete(object);
  Log(LogLevel::kError, "deleted a corrupt profile",
      {{"key", object},
       {"reason", ToStd(reason.message())},
       {"deleted", ToStd(deleted.ok() ? "OK" : deleted.message())}});
}

}  // namespace secateur
