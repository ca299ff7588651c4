#include "server/admin/collect_garbage.h"

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "server/admin/inventory.h"
#include "server/artifact/expert_store.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/event_text.h"

namespace secateur {
namespace {

constexpr int64_t kPage = 1000;
constexpr int64_t kMostLeaseBytes = int64_t{64} << 10;

// The time that the store gives an object that is written now.
absl::StatusOr<absl::Time> StoreNow(BlobStore& store) {
  std::random_device random;
  std::string key = "admin/now-";
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&key, "%08x", random());
  RETURN_IF_ERROR(store.Put(key, "now\n").status());
  const auto head = store.Head(key);
  RETURN_IF_ERROR(store.Delete(key));
  RETURN_IF_ERROR(head.status());
  return head->modified;
}

bool IsOfAttempt(ObjectKind kind) {
  return kind == ObjectKind::kExpertFile || kind == ObjectKind::kExpiry ||
         kind == ObjectKind::kManifest;
}

// When the expert that an object is of has ended; absent while it lives, and for all else.
std::optional<absl::Time> EndOf(const Inventory& inventory, const ObjectName& name,
                                absl::Time now) {
  if (!IsOfAttempt(name.kind)) return std::nullopt;
  const TenantMarks& marks = inventory.tenants.at(name.tenant);
  const auto end = marks.ends.find(name.folder);
  const bool ended = end != marks.ends.end() && marks.attempts.contains(name.folder);
  return ended && end->second <= now ? std::optional(end->second) : std::nullopt;
}

// Objects that go together: all of an attempt, all leases of an owner, or one by itself.
struct Group {
  ObjectKind kind = ObjectKind::kUnknown;  // kManifest for an expert that has ended
  std::string tenant, folder;
  std::vector<BlobInfo> objects;
  absl::Time newest = absl::InfinitePast();  // the latest of objects and end
};

std::map<std::string, Group> GroupsOf(const Inventory& inventory, absl::Time now) {
  std::map<std::string, Group> groups;
  for (const auto& [key, object] : inventory.objects) {
    const ObjectName name = ParseObjectName(key);
    const std::optional<absl::Time> end = EndOf(inventory, name, now);
    const bool lease = name.kind == ObjectKind::kLease;
    if (!lease && !end && !IsOrphan(inventory, key)) continue;
    Group& group = groups[lease || IsOfAttempt(name.kind) ? name.folder : key];
    group.kind = end                      ? ObjectKind::kManifest
                 : IsOfAttempt(name.kind) ? ObjectKind::kExpertFile
                                          : name.kind;
    group.tenant = name.tenant;
    group.folder = name.folder;
    group.objects.push_back(object);
    group.newest = std::max({group.newest, object.modified, end.value_or(object.modified)});
  }
  return groups;
}

std::string_view WhatGoes(const Group& group) {
  return group.kind == ObjectKind::kManifest ? "expired expert" : KindName(group.kind);
}

// How long a lease counts, as it says itself; nothing when it cannot be read.
std::optional<absl::Duration> TimeToLive(const std::string& text) {
  const auto checked = CheckDigest(text);
  if (!checked.ok()) return std::nullopt;
  const auto json = nlohmann::json::parse(*checked, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("ttl_nanos")) return std::nullopt;
  const auto& nanos = json["ttl_nanos"];
  if (!nanos.is_number_integer()) return std::nullopt;
  return absl::Nanoseconds(nanos.get<int64_t>());
}

class Collection {
 public:
  Collection(BlobStore& store, Inventory inventory, absl::Time now, const GarbageOptions& options)
      : store_(store), inventory_(std::move(inventory)), now_(now), options_(options) {
    report_.dry_run = options.dry_run;
  }

  absl::StatusOr<GarbageReport> Run() {
    for (const auto& [key, group] : GroupsOf(inventory_, now_)) RETURN_IF_ERROR(Sweep(group));
    return std::move(report_);
  }

 private:
  absl::Status Sweep(const Group& group) {
    const auto count = std::ssize(group.objects);
    if (now_ - group.newest < options_.grace) {
      if (group.kind != ObjectKind::kLease) report_.younger += count;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const bool goes, MayGo(group));
    if (!goes) {
      report_.kept += count;
      return absl::OkStatus();
    }
    // A manifest goes first: an expert is whole or gone.
    std::vector<BlobInfo> objects = group.objects;
    std::ranges::stable_partition(objects, [](const BlobInfo& object) {
      return ParseObjectName(object.key).kind == ObjectKind::kManifest;
    });
    for (const BlobInfo& object : objects) {
      if (!options_.dry_run) RETURN_IF_ERROR(store_.Delete(object.key));
      report_.removed.push_back({object.key, std::string(WhatGoes(group)), object.size});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<bool> MayGo(const Group& group) {
    switch (group.kind) {
      case ObjectKind::kTemporary:
        return true;
      case ObjectKind::kExpertFile:
        return AttemptMayGo(group);
      case ObjectKind::kManifest:
        return IsAsListed(group);  // nor was it extended
      case ObjectKind::kDocuments:
      case ObjectKind::kProfile:
        return IsStillAnOrphan(group);
      case ObjectKind::kLease:
        return LeaseMayGo(group);
      default:
        return false;
    }
  }

  // An operation that is not done can have written only after it was created.
  absl::StatusOr<bool> AttemptMayGo(const Group& group) {
    if (group.newest >= inventory_.tenants[group.tenant].live_since) return false;
    return IsAsListed(group);
  }

  // Nothing was added, no manifest either, and nothing was written anew.
  absl::StatusOr<bool> IsAsListed(const Group& group) {
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> now, ListAll(group.folder));
    return std::ranges::equal(now, group.objects, [](const BlobInfo& a, const BlobInfo& b) {
      return a.key == b.key && a.modified == b.modified;
    });
  }

  // No corpus has come that refers to it.
  absl::StatusOr<bool> IsStillAnOrphan(const Group& group) {
    TenantMarks& marks = inventory_.tenants[group.tenant];
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> metas, ListAll(StrCat(group.tenant, "corpora/")));
    for (const BlobInfo& meta : metas) {
      if (inventory_.objects.contains(meta.key)) continue;
      if (!MarkFrom(store_, meta.key, marks).ok()) return false;  // the next run will know
      inventory_.objects.emplace(meta.key, meta);
    }
    return IsOrphan(inventory_, group.objects.front().key);
  }

  absl::StatusOr<bool> LeaseMayGo(const Group& group) {
    const auto text = store_.ReadAll(group.objects.back().key, kMostLeaseBytes);
    if (!text.ok()) return false;  // gone meanwhile, or not what we write
    const std::optional<absl::Duration> ttl = TimeToLive(*text);
    if (!ttl || now_ - group.newest < *ttl) return false;
    return IsAsListed(group);
  }

  absl::StatusOr<std::vector<BlobInfo>> ListAll(const std::string& prefix) {
    std::vector<BlobInfo> all;
    while (true) {
      ASSIGN_OR_RETURN(const std::vector<BlobInfo> page,
                       store_.List(prefix, all.empty() ? "" : all.back().key, kPage));
      all.insert(all.end(), page.begin(), page.end());
      if (std::ssize(page) < kPage) return all;
    }
  }

  BlobStore& store_;
  Inventory inventory_;
  const absl::Time now_;
  const GarbageOptions options_;
  GarbageReport report_;
};

}  // namespace

int64_t GarbageReport::bytes() const {
  int64_t sum = 0;
  for (const Removed& one : removed) sum += one.bytes;
  return sum;
}

absl::StatusOr<GarbageReport> CollectGarbage(BlobStore& store, const Clock& clock,
                                             const GarbageOptions& options) {
  if (options.grace < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("the grace period is negative");
  }
  absl::Time now = clock.Now();
  if (!options.dry_run) {
    ASSIGN_OR_RETURN(now, StoreNow(store));
  }
  ASSIGN_OR_RETURN(Inventory inventory, TakeInventory(store));
  return Collection(store, std::move(inventory), now, options).Run();
}

}  // namespace secateur
