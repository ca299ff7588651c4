#include "server/jobs/leases.h"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/due.h"
#include "server/jobs/event_text.h"

namespace secateur {
namespace {

using nlohmann::json;

constexpr char kFolder[] = "replicas/";
constexpr int kFormatVersion = 1;
constexpr int64_t kMaxLeaseBytes = 64 << 10;
constexpr int64_t kPage = 1000;
// Lapsed leases are removed after this many times the time that they counted.
constexpr int kKeptTimes = 100;

std::string RandomOwner() {
  std::random_device random;
  return absl::StrFormat("%08x%08x", random(), random());
}

std::string ObjectOf(const std::string& owner, int64_t number) {
  return absl::StrFormat("%s%s/%09d", kFolder, owner, number);
}

// "replicas/<owner>/<number>" to its parts.
std::optional<std::pair<std::string, int64_t>> ParseObject(const std::string& object) {
  const std::vector<std::string> parts = absl::StrSplit(object, '/');
  int64_t number = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[2], &number)) return std::nullopt;
  return std::pair(parts[1], number);
}

absl::StatusOr<std::vector<BlobInfo>> ListAll(BlobStore& blobs) {
  std::vector<BlobInfo> objects;
  while (true) {
    const std::string last = objects.empty() ? "" : objects.back().key;
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> page, blobs.List(kFolder, last, kPage));
    objects.insert(objects.end(), page.begin(), page.end());
    if (std::ssize(page) < kPage) return objects;
  }
}

}  // namespace

Leases::Leases(BlobStore& blobs, const Clock& clock, Options options)
    : blobs_(blobs), clock_(clock), options_(std::move(options)), owner_(RandomOwner()) {}

absl::Status Leases::Renew() {
  MutexLock renewing(renewing_);
  const absl::Time begun = clock_.Now();
  {
    MutexLock lock(mutex_);
    if (released_ || !IsDue(begun, renewed_, renew_every())) return absl::OkStatus();
  }
  // A number whose writing failed may have been written: it is not used again.
  const int64_t number = ++number_;
  RETURN_IF_ERROR(Write(number));
  ASSIGN_OR_RETURN(const BlobInfo written, blobs_.Head(ObjectOf(owner_, number)));
  {
    MutexLock lock(mutex_);
    renewed_ = begun;
    store_now_ = std::max(store_now_, written.modified);
  }
  if (number > 2) blobs_.Delete(ObjectOf(owner_, number - 2)).IgnoreError();
  return absl::OkStatus();
}

absl::Status Leases::Write(int64_t number) {
  const json out{{"format_version", kFormatVersion},
                 {"ttl_nanos", absl::ToInt64Nanoseconds(options_.ttl)},
                 {"host", options_.self.host},
                 {"pid", options_.self.pid},
                 {"start", options_.self.start}};
  return blobs_.Put(ObjectOf(owner_, number), WithDigest(out.dump() + "\n")).status();
}

bool Leases::held() const {
  MutexLock lock(mutex_);
  return !gone_ && clock_.Now() - renewed_ < options_.ttl;
}

void Leases::Release() {
  MutexLock renewing(renewing_);
  if (std::exchange(released_, true)) return;
  {
    MutexLock lock(mutex_);
    gone_ = true;
  }
  // Earlier ones were removed when later ones were written.
  for (int64_t number = std::max<int64_t>(number_ - 3, 1); number <= number_; ++number) {
    const absl::Status removed = blobs_.Delete(ObjectOf(owner_, number));
    if (removed.ok()) continue;
    Log(LogLevel::kWarning, "a lease could not be removed: others wait until it lapses",
        {{"owner", owner_}, {"error", removed.ToString()}});
  }
}

absl::StatusOr<Leases::Lease> Leases::Read(const BlobInfo& object, int64_t number) const {
  Lease lease{.number = number, .modified = object.modified, .ttl = options_.ttl, .process = {}};
  const absl::StatusOr<std::string> bytes = blobs_.ReadAll(object.key, kMaxLeaseBytes);
  if (absl::IsNotFound(bytes.status())) return lease;  // a newer one is there by now, or none
  RETURN_IF_ERROR(bytes.status());
  lease.read = true;
  const absl::StatusOr<std::string> checked = CheckDigest(*bytes);
  if (!checked.ok()) return lease;  // it was written: its process counts as one of this kind
  const json in = json::parse(*checked, nullptr, false);
  try {
    lease.ttl = absl::Nanoseconds(in.at("ttl_nanos").get<int64_t>());
    lease.process = {.host = in.at("host").get<std::string>(),
                     .pid = in.at("pid").get<int64_t>(),
                     .start = in.at("start").get<int64_t>()};
  } catch (const json::exception&) {
    return lease;  // of another version: as above
  }
  return lease;
}

absl::Status Leases::Look() {
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> objects, ListAll(blobs_));
  std::map<std::string, std::pair<int64_t, BlobInfo>> newest;
  std::map<std::string, std::vector<std::string>> of_owner;
  for (const BlobInfo& object : objects) {
    const auto parsed = ParseObject(object.key);
    if (!parsed || parsed->first == owner_) continue;
    of_owner[parsed->first].push_back(object.key);
    auto& known = newest[parsed->first];
    if (parsed->second > known.first) known = {parsed->second, object};
  }
  std::map<std::string, Lease> before, leases;
  {
    MutexLock lock(mutex_);
    before = leases_;
  }
  for (const auto& [owner, found] : newest) {
    const auto known = before.find(owner);
    if (known != before.end() && known->second.read) {  // all of an owner say the same
      leases[owner] = known->second;
      leases[owner].number = found.first;
      leases[owner].modified = found.second.modified;
      continue;
    }
    ASSIGN_OR_RETURN(leases[owner], Read(found.second, found.first));
  }
  {
    MutexLock lock(mutex_);
    leases_ = std::move(leases);
  }
  RemoveLapsed(of_owner);
  return absl::OkStatus();
}

void Leases::RemoveLapsed(const std::map<std::string, std::vector<std::string>>& objects) {
  std::vector<std::string> lapsed;
  {
    MutexLock lock(mutex_);
    for (const auto& [owner, lease] : leases_) {
      if (lease.modified + kKeptTimes * lease.ttl >= store_now_) continue;
      const auto keys = objects.find(owner);
      if (keys != objects.end()) {
        lapsed.insert(lapsed.end(), keys->second.begin(), keys->second.end());
      }
    }
  }
  for (const std::string& object : lapsed) blobs_.Delete(object).IgnoreError();
}

bool Leases::Counts(const Lease& lease) const {
  return lease.modified + lease.ttl > store_now_ && !IsKnownToBeGone(lease.process);
}

bool Leases::Alive(const std::string& owner) const {
  MutexLock lock(mutex_);
  if (owner == owner_) return !gone_;
  const auto found = leases_.find(owner);
  return found != leases_.end() && Counts(found->second);
}

std::set<std::string> Leases::alive() const {
  MutexLock lock(mutex_);
  std::set<std::string> owners;
  if (!gone_) owners.insert(owner_);
  for (const auto& [owner, lease] : leases_) {
    if (Counts(lease)) owners.insert(owner);
  }
  return owners;
}

absl::Time Leases::store_now() const {
  MutexLock lock(mutex_);
  return store_now_;
}

}  // namespace secateur
