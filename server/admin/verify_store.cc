#include "server/admin/verify_store.h"

#include "server/admin/inventory.h"
#include "server/admin/object_check.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

bool IsStoreTrouble(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsPermissionDenied(status) ||
         absl::IsDeadlineExceeded(status) || absl::IsUnauthenticated(status);
}

absl::Status Note(const Inventory& inventory, const BlobInfo& object, const absl::Status& checked,
                  VerifyReport& report) {
  const ObjectKind kind = ParseObjectName(object.key).kind;
  VerifyReport::Count& count = report.kinds[KindName(kind)];
  ++count.objects;
  count.bytes += object.size;
  if (kind == ObjectKind::kUnknown) report.unknown.push_back({object.key, "of no kind we write"});
  if (IsOrphan(inventory, object.key)) {
    ++count.orphans;
    report.orphans.push_back({object.key, StrCat(object.size, " bytes that nothing refers to")});
  }
  if (checked.ok()) return absl::OkStatus();
  if (IsStoreTrouble(checked)) return Annotate(checked, object.key);
  ++count.damaged;
  report.damaged.push_back({object.key, std::string(checked.message())});
  return absl::OkStatus();
}

absl::StatusOr<bool> IsThere(BlobStore& store, const std::string& key) {
  const absl::Status head = store.Head(key).status();
  if (!head.ok() && !absl::IsNotFound(head)) return head;
  return head.ok();
}

// What is named and not there, unless what names it is gone by now, too.
absl::Status NoteMissing(BlobStore& store, const Inventory& inventory, VerifyReport& report) {
  for (const auto& [tenant, marks] : inventory.tenants) {
    for (const auto& [key, expected] : marks.expected) {
      if (inventory.objects.contains(key)) continue;
      ASSIGN_OR_RETURN(const bool there, IsThere(store, key));
      ASSIGN_OR_RETURN(const bool named, IsThere(store, expected.by));
      if (there || !named) continue;
      ++report.kinds[KindName(ParseObjectName(key).kind)].damaged;
      report.damaged.push_back({key, StrCat("it is missing; ", expected.by, " names it")});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VerifyReport> VerifyStore(BlobStore& store) {
  ASSIGN_OR_RETURN(const Inventory inventory, TakeInventory(store));
  VerifyReport report;
  for (const auto& [key, object] : inventory.objects) {
    const absl::Status checked = CheckObject(store, inventory, object);
    if (absl::IsNotFound(checked)) continue;  // deleted meanwhile
    RETURN_IF_ERROR(Note(inventory, object, checked, report));
  }
  RETURN_IF_ERROR(NoteMissing(store, inventory, report));
  return report;
}

}  // namespace secateur
