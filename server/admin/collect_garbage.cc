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

// Objects that go together: all of an attempt, all leases of an owner, or one by itself.
struct Group {
  ObjectKind kind = ObjectKind::kUnknown;
  std::string tenant, folder;
  std::vector<BlobInfo> objects;
  absl::Time newest = absl::InfinitePast();
};

std::map<std::string, Group> GroupsOf(const Inventory& inventory) {
  std::map<std::string, Group> groups;
  for (const auto& [key, object] : inventory.objects) {
    const ObjectName name = ParseObjectName(key);
    const bool lease = name.kind == ObjectKind::kLease;
    if (!lease && !IsOrphan(inventory, key)) continue;
    const bool together = lease || name.kind == ObjectKind::kExpertFile;
    Group& group = groups[together ? name.folder : key];
    group.kind = name.kind;
    group.tenant = name.tenant;
    group.folder = name.folder;
    group.objects.push_back(object);
    group.newest = std::max(group.newest, object.modified);
  }
  return groups;
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
    for (const auto& [key, group] : GroupsOf(inventory_)) RETURN_IF_ERROR(Sweep(group));
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
    for (const BlobInfo& object : group.objects) {
      if (!options_.dry_run) RETURN_IF_ERROR(store_.Delete(object.key));
      report_.removed.push_back({object.key, std::string(KindName(group.kind)), object.size});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<bool> MayGo(const Group& group) {
    switch (group.kind) {
      case ObjectKind::kTemporary:
        return true;
      case ObjectKind::kExpertFile:
        return AttemptMayGo(group);
      case ObjectKind::kDocuments:
        return DocumentsMayGo(group);
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

  absl::StatusOr<bool> DocumentsMayGo(const Group& group) {
    TenantMarks& marks = inventory_.tenants[group.tenant];
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> metas, ListAll(StrCat(group.tenant, "corpora/")));
    for (const BlobInfo& meta : metas) {
      if (inventory_.objects.contains(meta.key)) continue;
      if (!MarkFrom(store_, meta.key, marks).ok()) return false;  // the next run will know
      inventory_.objects.emplace(meta.key, meta);
    }
    return !marks.expected.contains(group.objects.front().key);
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
