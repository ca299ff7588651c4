// What lies in a store, seen from its root: `tenants/<t>/...` of every tenant and `models/` of the
// server itself. Kinds follow from keys alone; the meta objects, manifests and events say what is
// referenced. Memory grows with the number of objects, not with their sizes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/digest.h"
#include "server/storage/blob_store.h"

namespace secateur {

enum class ObjectKind {
  kCorpusMeta,   // tenants/<t>/corpora/<id>/meta-<generation>.json
  kDocuments,    // tenants/<t>/uploads/<unique>.jsonl
  kProfile,      // tenants/<t>/profiles/<id>/<SHA-256>.safetensors
  kManifest,     // tenants/<t>/experts/<id>/<attempt>/secateur.json
  kExpertFile,   // tenants/<t>/experts/<id>/<attempt>/<file>
  kExpiry,       // tenants/<t>/experts/<id>/<attempt>/until-<time>
  kEvent,        // tenants/<t>/operations/<id>/<epoch>.<owner>.<number>
  kLease,        // tenants/<t>/replicas/<owner>/<number>
  kModelDigest,  // models/digest-<SHA-256>.json
  kTemporary,    // tenants/<t>/.tmp/<name>[/object], and what a collection killed halfway left
  kUnknown
};
std::string_view KindName(ObjectKind kind);

struct ObjectName {
  ObjectKind kind = ObjectKind::kUnknown;
  std::string tenant;  // "tenants/<t>/", empty for what is nobody's
  std::string id;      // of the resource: the folder that the object lies in
  std::string folder;  // the key up to its last '/', that included
  std::string leaf;
};
ObjectName ParseObjectName(const std::string& key);

struct Expected {
  std::optional<int64_t> size;
  Digest digest;
  std::string by;  // the object that says so
};

// What one tenant's objects say about others.
struct TenantMarks {
  std::map<std::string, Expected> expected;  // by key: documents and files of experts
  std::set<std::string> attempts;            // folders with a manifest, readable or not
  std::map<std::string, absl::Time> ends;    // of such folders, when the expert is to end
  std::set<Digest> corpora;
  std::map<std::string, Digest> profiled;  // by key of a profile: the corpus that it is of
  // A meta object cannot be read: what it references is not known.
  bool corpora_unclear = false;
  // The store's time of the first event of the oldest operation that is not done, or that cannot
  // be told; InfiniteFuture() when there is none.
  absl::Time live_since = absl::InfiniteFuture();
};

struct Inventory {
  std::map<std::string, BlobInfo> objects;
  std::map<std::string, std::string> damaged;  // by key: what is wrong, of those read for marks
  std::map<std::string, TenantMarks> tenants;  // by "tenants/<t>/"
};

// Lists everything and reads what references something. Errors are the store's; damage is none.
absl::StatusOr<Inventory> TakeInventory(BlobStore& store);

// What `inventory` lets one sweep: nothing references it and its kind is known. Age is not looked
// at.
bool IsOrphan(const Inventory& inventory, const std::string& key);

// Adds what one meta object or manifest references. DATA_LOSS, INVALID_ARGUMENT and so on when it
// cannot be read; the store's own errors as they are.
absl::Status MarkFrom(BlobStore& store, const std::string& key, TenantMarks& marks);

}  // namespace secateur
