#include "server/artifact/expert_store.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/artifact/manifest_files.h"
#include "server/base/errors.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"

namespace secateur {
namespace {

constexpr std::string_view kRoot = "experts/";
constexpr int64_t kManifestLimit = int64_t{64} << 20;
constexpr int64_t kPage = 1000;
constexpr int kMostRemoved = 64;  // at once: others wait for whoever removes
constexpr absl::Duration kClockDifference = absl::Minutes(10);  // between servers, at most

absl::Status ForEachBlob(BlobStore& blobs, const std::string& prefix,
                         const std::function<absl::Status(const BlobInfo&)>& visit) {
  std::string last;
  while (true) {
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> page, blobs.List(prefix, last, kPage));
    for (const BlobInfo& blob : page) RETURN_IF_ERROR(visit(blob));
    if (static_cast<int64_t>(page.size()) < kPage) return absl::OkStatus();
    last = page.back().key;
  }
}

bool IsExpertId(const std::string& id) {
  return id.size() == 41 && id[0] == 'e' && std::all_of(id.begin() + 1, id.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
         });
}

// The id in "experts/<id>/<attempt>/secateur.json", empty for any other key.
std::string IdOfManifestKey(const std::string& key) {
  const std::vector<std::string> parts = absl::StrSplit(key, '/');
  const bool manifest = parts.size() == 4 && IsExpertId(parts[1]) && parts[3] == kManifestName;
  return manifest ? parts[1] : "";
}

absl::StatusOr<StoredExpert> MakeExpert(const std::string& id, const std::string& prefix,
                                        std::string manifest_json) {
  StoredExpert expert;
  expert.id = id;
  expert.prefix = prefix;
  ASSIGN_OR_RETURN(expert.files, ParseManifestFiles(manifest_json));
  expert.manifest = {std::string(kManifestName), static_cast<int64_t>(manifest_json.size()),
                     Sha256Of(manifest_json)};
  expert.manifest_json = std::move(manifest_json);
  return expert;
}

absl::StatusOr<StoredExpert> ReadExpert(BlobStore& blobs, const std::string& id,
                                        const BlobInfo& manifest) {
  ASSIGN_OR_RETURN(std::string json, blobs.ReadAll(manifest.key, kManifestLimit));
  const std::string prefix = manifest.key.substr(0, manifest.key.size() - kManifestName.size());
  ASSIGN_OR_RETURN(StoredExpert expert, MakeExpert(id, prefix, std::move(json)));
  expert.create_time = manifest.modified;
  return expert;
}

// What lies below a prefix, by the prefix of an attempt.
struct Listing {
  std::map<std::string, BlobInfo> manifests;
  std::map<std::string, absl::Time> ends;  // the last in key order

  absl::Time EndOf(const std::string& prefix) const {
    const auto end = ends.find(prefix);
    return end == ends.end() ? absl::InfiniteFuture() : end->second;
  }
};

absl::StatusOr<Listing> ListAttempts(BlobStore& blobs, const std::string& root) {
  Listing listing;
  RETURN_IF_ERROR(ForEachBlob(blobs, root, [&](const BlobInfo& blob) {
    const size_t slash = blob.key.rfind('/') + 1;
    const std::string prefix = blob.key.substr(0, slash);
    if (!IdOfManifestKey(blob.key).empty()) {
      listing.manifests[prefix] = blob;
    } else if (const auto end = ExpiryOfName(std::string_view(blob.key).substr(slash))) {
      listing.ends[prefix] = *end;
    }
    return absl::OkStatus();
  }));
  return listing;
}

const StoredExpert* Known(const std::map<std::string, StoredExpert>& experts,
                          const std::string& prefix) {
  const auto at = experts.find(IdOfManifestKey(StrCat(prefix, kManifestName)));
  return at != experts.end() && at->second.prefix == prefix ? &at->second : nullptr;
}

// A list that is made while a manifest is written may show it, and miss the end that was written
// before: a manifest that was not `listed` before and has none is a reason to look again.
absl::StatusOr<Listing> ListAll(BlobStore& blobs, const std::set<std::string>& listed) {
  ASSIGN_OR_RETURN(Listing listing, ListAttempts(blobs, std::string(kRoot)));
  const bool again = std::ranges::any_of(listing.manifests, [&](const auto& manifest) {
    return !listed.contains(manifest.first) && !listing.ends.contains(manifest.first);
  });
  if (!again) return listing;
  ASSIGN_OR_RETURN(Listing later, ListAttempts(blobs, std::string(kRoot)));
  listing.ends = std::move(later.ends);
  return listing;
}

std::set<std::string> EndedBefore(const Listing& listing, absl::Time time) {
  std::set<std::string> prefixes;
  for (const auto& [prefix, manifest] : listing.manifests) {
    if (listing.EndOf(prefix) <= time) prefixes.insert(prefix);
  }
  return prefixes;
}

// Prefixes in the order in which they count.
std::vector<std::string> LivingAt(const Listing& listing, absl::Time now) {
  std::vector<std::string> prefixes;
  for (const auto& [prefix, manifest] : listing.manifests) {
    if (listing.EndOf(prefix) > now) prefixes.push_back(prefix);
  }
  std::ranges::stable_sort(prefixes, [&listing](const std::string& a, const std::string& b) {
    return listing.EndOf(a) > listing.EndOf(b);
  });
  return prefixes;
}

// Of two attempts with one id, the one that counts.
bool Outlives(const StoredExpert& a, const StoredExpert& b) {
  if (a.expire_time != b.expire_time) return a.expire_time > b.expire_time;
  return a.prefix < b.prefix;
}

absl::Status PutEnd(BlobStore& blobs, const std::string& prefix, absl::Time end) {
  const std::string name = ExpiryName(end);
  const absl::Status put = blobs.Put(prefix + name, ExpiryText(name)).status();
  return absl::IsAlreadyExists(put) ? absl::OkStatus() : put;
}

// Every file that the manifest names is there with its size.
absl::Status CheckFiles(BlobStore& blobs, const StoredExpert& expert) {
  for (const ArtifactFile& file : expert.files) {
    const absl::StatusOr<BlobInfo> blob = blobs.Head(expert.prefix + file.name);
    if (absl::IsNotFound(blob.status())) {
      return absl::AbortedError(StrCat("expert ", expert.id, ": ", file.name,
                                       " is gone, deleted while it was being made; make it again"));
    }
    RETURN_IF_ERROR(blob.status());
    if (blob->size != file.size) {
      return absl::DataLossError(StrCat("expert ", expert.id, ": ", file.name, " has ", blob->size,
                                        " bytes; its manifest says ", file.size));
    }
  }
  return absl::OkStatus();
}

std::string PrefixOf(const std::string& key) { return key.substr(0, key.rfind('/') + 1); }

absl::Status DeleteKeys(BlobStore& blobs, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) RETURN_IF_ERROR(blobs.Delete(key));
  return absl::OkStatus();
}

}  // namespace

int64_t StoredExpert::bytes() const {
  int64_t sum = manifest.size;
  for (const ArtifactFile& file : files) sum += file.size;
  return sum;
}

ExpertStore::ExpertStore(BlobStore& blobs, const Clock& clock) : blobs_(blobs), clock_(clock) {}

absl::StatusOr<ExpertStore::Experts> ExpertStore::ReadAll(const Experts& before) {
  ASSIGN_OR_RETURN(const Listing listing, ListAll(blobs_, listed_));
  const absl::Time now = clock_.Now();
  listed_.clear();
  for (const auto& [prefix, manifest] : listing.manifests) listed_.insert(prefix);
  ended_ = EndedBefore(listing, now - kClockDifference);
  Experts experts;
  for (const std::string& prefix : LivingAt(listing, now)) {
    const BlobInfo& manifest = listing.manifests.at(prefix);
    const std::string id = IdOfManifestKey(manifest.key);
    if (experts.contains(id)) continue;
    const StoredExpert* known = Known(before, prefix);
    absl::StatusOr<StoredExpert> expert = known ? *known : ReadExpert(blobs_, id, manifest);
    if (expert.ok()) {
      expert->expire_time = listing.EndOf(prefix);
      experts.emplace(id, *std::move(expert));
    } else if (FirstTime(manifest.key)) {
      Log(LogLevel::kError, "an expert's manifest cannot be read",
          {{"key", manifest.key}, {"error", std::string(expert.status().message())}});
    }
  }
  return experts;
}

absl::Status ExpertStore::Load() {
  int64_t arrival = 0;
  {
    MutexLock lock(mutex_);
    arrival = ++load_arrivals_;
  }
  MutexLock changing(change_mutex_);
  Experts before;
  int64_t covered = 0;
  {
    MutexLock lock(mutex_);
    if (loads_covered_ >= arrival) return absl::OkStatus();  // another call began since
    covered = load_arrivals_;
    before = experts_;
  }
  ASSIGN_OR_RETURN(Experts experts, ReadAll(before));
  MutexLock lock(mutex_);
  // Only Extend() may have changed what is known meanwhile.
  std::erase_if(experts, [&](const auto& entry) {
    return !experts_.contains(entry.first) && Known(before, entry.second.prefix) != nullptr;
  });
  for (auto& [id, expert] : experts) {
    const StoredExpert* then = Known(before, expert.prefix);
    const StoredExpert* now = Known(experts_, expert.prefix);
    const bool extended =
        then != nullptr && now != nullptr && then->expire_time != now->expire_time;
    if (extended) expert.expire_time = std::max(expert.expire_time, now->expire_time);
  }
  experts_ = std::move(experts);
  loads_covered_ = covered;
  return absl::OkStatus();
}

bool ExpertStore::FirstTime(const std::string& key) {
  MutexLock lock(mutex_);
  return unreadable_.insert(key).second;
}

std::optional<StoredExpert> ExpertStore::Find(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = experts_.find(id);
  if (found == experts_.end() || found->second.expire_time <= clock_.Now()) return std::nullopt;
  return found->second;
}

std::vector<StoredExpert> ExpertStore::List() const {
  MutexLock lock(mutex_);
  const absl::Time now = clock_.Now();
  std::vector<StoredExpert> experts;
  for (const auto& [id, expert] : experts_) {
    if (expert.expire_time > now) experts.push_back(expert);
  }
  return experts;
}

std::string ExpertStore::NewPrefix(const std::string& id) const {
  std::random_device random;
  return absl::StrFormat("%s%s/%08x%08x/", ToAbsl(kRoot), id, random(), random());
}

absl::StatusOr<StoredExpert> ExpertStore::Publish(const std::string& id, const std::string& prefix,
                                                  const std::string& manifest_json,
                                                  const Lifetime& lifetime) {
  if (IdOfManifestKey(StrCat(prefix, kManifestName)) != id) {
    return absl::InvalidArgumentError(
        StrCat("the prefix \"", prefix, "\" is not one of expert ", id));
  }
  MutexLock changing(change_mutex_);
  auto expert = Prepare(id, prefix, manifest_json, lifetime);
  if (!expert.ok() || expert->prefix != prefix) {
    Discard(prefix);
    return expert;
  }
  // From here on the files stay: a write that seems to have failed may land later, and what is
  // never seen is garbage that is collected.
  const std::string key = StrCat(prefix, kManifestName);
  RETURN_IF_ERROR(blobs_.Put(key, manifest_json).status());
  const absl::StatusOr<BlobInfo> info = blobs_.Head(key);
  expert->create_time = info.ok() ? info->modified : clock_.Now();
  MutexLock lock(mutex_);
  // Two attempts that end at once both have a manifest.
  const auto [at, inserted] = experts_.emplace(id, *expert);
  if (!inserted && Outlives(*expert, at->second)) at->second = *expert;
  return at->second;
}

absl::StatusOr<StoredExpert> ExpertStore::Prepare(const std::string& id, const std::string& prefix,
                                                  const std::string& manifest_json,
                                                  const Lifetime& lifetime) {
  ASSIGN_OR_RETURN(StoredExpert expert, MakeExpert(id, prefix, manifest_json));
  RETURN_IF_ERROR(CheckFiles(blobs_, expert));
  RETURN_IF_ERROR(CheckAhead(lifetime));
  if (const std::optional<StoredExpert> earlier = Find(id)) {
    // The same id is the same expert: the one that readers know stays.
    absl::StatusOr<StoredExpert> extended = Extend(*earlier, lifetime);
    if (!absl::IsNotFound(extended.status())) return extended;
  }
  expert.expire_time = lifetime.EndFrom(clock_.Now());
  // First, so that no crash lets it stay for ever.
  if (expert.expire_time != absl::InfiniteFuture()) {
    RETURN_IF_ERROR(PutEnd(blobs_, prefix, expert.expire_time));
  }
  return expert;
}

absl::Status ExpertStore::CheckAhead(const Lifetime& lifetime) const {
  const absl::Time now = clock_.Now();
  if (lifetime.EndFrom(now) > now) return absl::OkStatus();
  return WithReason(
      WithField(absl::FailedPreconditionError(StrCat(
                    "expire_time ",
                    absl::FormatTime(absl::RFC3339_full, lifetime.until, absl::UTCTimeZone()),
                    " has passed before the expert was there: nothing is published")),
                "expire_time"),
      "EXPIRED");
}

absl::StatusOr<StoredExpert> ExpertStore::Extend(StoredExpert expert, const Lifetime& lifetime) {
  const absl::Time end = lifetime.EndFrom(clock_.Now());
  if (end > expert.expire_time) RETURN_IF_ERROR(PutEnd(blobs_, expert.prefix, end));
  const absl::Status there = blobs_.Head(StrCat(expert.prefix, kManifestName)).status();
  MutexLock lock(mutex_);
  const auto at = experts_.find(expert.id);
  const bool known = at != experts_.end() && at->second.prefix == expert.prefix;
  if (absl::IsNotFound(there) && known) experts_.erase(at);
  RETURN_IF_ERROR(there);
  expert.expire_time = std::max(expert.expire_time, end);
  if (known) at->second.expire_time = std::max(at->second.expire_time, end);
  return expert;
}

absl::Status ExpertStore::DeleteExpired(absl::Time store_now) {
  const absl::Time before = std::min(clock_.Now(), store_now) - kClockDifference;
  absl::Status status;
  for (int left = kMostRemoved; left > 0; --left) {
    MutexLock changing(change_mutex_);
    if (ended_.empty()) break;
    const std::string prefix = *ended_.begin();
    ended_.erase(ended_.begin());  // the next Load() finds it again where it stays
    status.Update(DeleteIfEnded(prefix, before));
  }
  return status;
}

absl::Status ExpertStore::DeleteIfEnded(const std::string& prefix, absl::Time before) {
  ASSIGN_OR_RETURN(const Listing now, ListAttempts(blobs_, prefix));
  const absl::Time end = now.EndOf(prefix);
  if (now.manifests.empty() || end > before) return absl::OkStatus();
  RETURN_IF_ERROR(blobs_.Delete(StrCat(prefix, kManifestName)));
  Discard(prefix);
  Log(LogLevel::kInfo, "an expert that has ended was removed",
      {{"prefix", prefix},
       {"expire_time", absl::FormatTime(absl::RFC3339_sec, end, absl::UTCTimeZone())}});
  return absl::OkStatus();
}

absl::Status ExpertStore::Delete(const std::string& id) {
  if (!IsExpertId(id)) return absl::OkStatus();  // nothing can be stored under it
  MutexLock changing(change_mutex_);
  std::vector<std::string> manifests;
  std::map<std::string, std::vector<std::string>> others;  // by the prefix of their attempt
  RETURN_IF_ERROR(ForEachBlob(blobs_, StrCat(kRoot, id, "/"), [&](const BlobInfo& blob) {
    if (!IdOfManifestKey(blob.key).empty()) {
      manifests.push_back(blob.key);
    } else {
      others[PrefixOf(blob.key)].push_back(blob.key);
    }
    return absl::OkStatus();
  }));
  RETURN_IF_ERROR(DeleteKeys(blobs_, manifests));
  {
    MutexLock lock(mutex_);
    experts_.erase(id);
  }
  for (const std::string& manifest : manifests) {
    RETURN_IF_ERROR(DeleteKeys(blobs_, others[PrefixOf(manifest)]));
  }
  return absl::OkStatus();
}

void ExpertStore::Discard(const std::string& prefix) const {
  // Whatever ends this halfway, no manifest is left without its files.
  std::vector<std::string> keys = {StrCat(prefix, kManifestName)};
  absl::Status status = ForEachBlob(blobs_, prefix, [&](const BlobInfo& blob) {
    if (blob.key != keys.front()) keys.push_back(blob.key);
    return absl::OkStatus();
  });
  if (status.ok()) status = DeleteKeys(blobs_, keys);
  if (!status.ok()) {
    Log(LogLevel::kWarning, "files of a discarded attempt stay behind",
        {{"prefix", prefix}, {"error", std::string(status.message())}});
  }
}

}  // namespace secateur
