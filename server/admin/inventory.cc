#include "server/admin/inventory.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/artifact/expert_store.h"
#include "server/artifact/manifest_files.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/corpus/corpus_meta.h"
#include "server/jobs/event_text.h"
#include "server/jobs/operation_fold.h"
#include "server/profile/profile_file.h"

namespace secateur {
namespace {

constexpr int64_t kPage = 1000;
constexpr int64_t kMostMetaBytes = int64_t{64} << 10;
constexpr int64_t kMostBytes = int64_t{64} << 20;  // of a manifest or an event

bool IsHex(std::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool IsNumber(std::string_view text, size_t least) {
  return text.size() >= least && text.size() <= 18 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool IsId(std::string_view text, char letter) {
  return text.size() == 41 && text[0] == letter && IsHex(text.substr(1), 40);
}

bool IsEventName(const std::string& leaf) {
  const std::vector<std::string> parts = absl::StrSplit(leaf, '.');
  return parts.size() == 3 && IsNumber(parts[0], 6) && IsHex(parts[1], 16) && IsNumber(parts[2], 6);
}

// What is between `prefix` and `suffix`; nothing when they are not there.
std::string_view Between(std::string_view text, std::string_view prefix, std::string_view suffix) {
  if (text.size() < prefix.size() + suffix.size() || !text.starts_with(prefix) ||
      !text.ends_with(suffix)) {
    return {};
  }
  return text.substr(prefix.size(), text.size() - prefix.size() - suffix.size());
}

// Of the parts below the tenant's root.
ObjectKind KindOf(const std::vector<std::string>& parts) {
  const std::string& leaf = parts.back();
  const std::string& top = parts[0];
  const bool in_bucket = parts.size() == 3 && IsHex(parts[1], 32) && leaf == "object";
  if (top == ".tmp" && (parts.size() == 2 || in_bucket)) return ObjectKind::kTemporary;
  if (top == "uploads" && parts.size() == 2 && !Between(leaf, "", ".jsonl").empty()) {
    return ObjectKind::kDocuments;
  }
  if (top == "experts" && parts.size() == 4 && IsId(parts[1], 'e')) {
    if (leaf == kManifestName) return ObjectKind::kManifest;
    return ExpiryOfName(leaf) ? ObjectKind::kExpiry : ObjectKind::kExpertFile;
  }
  if (parts.size() != 3) return ObjectKind::kUnknown;
  if (top == "corpora" && IsId(parts[1], 'c') && IsNumber(Between(leaf, "meta-", ".json"), 8)) {
    return ObjectKind::kCorpusMeta;
  }
  if (top == "profiles" && IsId(parts[1], 'p') && IsHex(Between(leaf, "", ".safetensors"), 64)) {
    return ObjectKind::kProfile;
  }
  if (top == "operations" && IsEventName(leaf)) return ObjectKind::kEvent;
  if (top == "replicas" && IsHex(parts[1], 16) && IsNumber(leaf, 1)) return ObjectKind::kLease;
  return ObjectKind::kUnknown;
}

// Of an object that is not of the form that its kind has.
bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsInvalidArgument(status) ||
         absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status) ||
         absl::IsUnimplemented(status);
}

absl::Status MarkFromMeta(const std::string& bytes, const ObjectName& name, const std::string& key,
                          TenantMarks& marks) {
  ASSIGN_OR_RETURN(const StoredCorpus corpus, DecodeMeta(bytes));
  if (StrCat(name.tenant, MetaKey(corpus.info.id(), corpus.info.generation)) != key) {
    return absl::DataLossError("it belongs under another key");
  }
  marks.corpora.insert(corpus.info.digest);
  marks.expected[StrCat(name.tenant, corpus.documents_key)] = {
      .size = std::nullopt, .digest = corpus.info.digest, .by = key};
  return absl::OkStatus();
}

absl::Status MarkFromManifest(const std::string& bytes, const ObjectName& name,
                              const std::string& key, TenantMarks& marks) {
  ASSIGN_OR_RETURN(const std::vector<ArtifactFile> files, ParseManifestFiles(bytes));
  for (const ArtifactFile& file : files) {
    marks.expected[StrCat(name.folder, file.name)] = {
        .size = file.size, .digest = file.digest, .by = key};
  }
  return absl::OkStatus();
}

// What cannot be read says nothing.
absl::Status MarkFromProfile(BlobStore& store, const BlobInfo& object, const ObjectName& name,
                             TenantMarks& marks) {
  const auto beginning =
      store.Read(object.key, 0, kProfileHeaderLimit + static_cast<int64_t>(sizeof(uint64_t)));
  if (absl::IsNotFound(beginning.status())) return absl::OkStatus();
  RETURN_IF_ERROR(beginning.status());
  const auto summary = ReadProfileSummary(object.key, *beginning, object.size);
  if (summary.ok() && summary->key.id() == name.id)
    marks.profiled.emplace(object.key, summary->key.corpus_digest);
  return absl::OkStatus();
}

// One operation's events.
struct Events {
  std::vector<StoredEvent> read;
  absl::Time first = absl::InfiniteFuture();
  bool unclear = false;
};

bool IsLive(const std::string& id, Events events) {
  if (events.unclear) return true;
  const absl::StatusOr<Operation> operation = Fold(id, std::move(events.read));
  return operation.ok() && !IsDone(operation->state);
}

absl::Status ReadEvent(BlobStore& store, const BlobInfo& object, const ObjectName& name,
                       Inventory& inventory, Events& events) {
  events.first = std::min(events.first, object.modified);
  const auto text = store.ReadAll(object.key, kMostBytes);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok() && !IsDamage(text.status())) return text.status();
  auto event = text.ok() ? EventFromText(*text) : absl::StatusOr<OperationEvent>(text.status());
  if (!event.ok()) {
    inventory.damaged[object.key] = std::string(event.status().message());
    events.unclear = true;
    return absl::OkStatus();
  }
  const std::vector<std::string> parts = absl::StrSplit(name.leaf, '.');
  EventKey key{.owner = parts[1]};
  if (absl::SimpleAtoi(parts[0], &key.epoch) && absl::SimpleAtoi(parts[2], &key.number)) {
    events.read.push_back({std::move(key), *std::move(event)});
  }
  return absl::OkStatus();
}

absl::Status ListInto(BlobStore& store, std::map<std::string, BlobInfo>& objects) {
  std::string last;
  while (true) {
    ASSIGN_OR_RETURN(std::vector<BlobInfo> page, store.List("", last, kPage));
    for (BlobInfo& blob : page) {
      last = blob.key;
      objects.emplace(last, std::move(blob));
    }
    if (std::ssize(page) < kPage) return absl::OkStatus();
  }
}

absl::Status MarkAll(BlobStore& store, Inventory& inventory) {
  for (const auto& [key, object] : inventory.objects) {
    const ObjectName name = ParseObjectName(key);
    TenantMarks& marks = inventory.tenants[name.tenant];
    if (name.kind == ObjectKind::kProfile) {
      RETURN_IF_ERROR(MarkFromProfile(store, object, name, marks));
    }
    if (name.kind == ObjectKind::kExpiry) marks.ends[name.folder] = *ExpiryOfName(name.leaf);
    if (name.kind != ObjectKind::kCorpusMeta && name.kind != ObjectKind::kManifest) continue;
    const absl::Status marked = MarkFrom(store, key, marks);
    if (marked.ok() || absl::IsNotFound(marked)) continue;
    if (!IsDamage(marked)) return marked;
    inventory.damaged[key] = std::string(marked.message());
    if (name.kind == ObjectKind::kCorpusMeta) marks.corpora_unclear = true;
  }
  return absl::OkStatus();
}

absl::Status FoldAll(BlobStore& store, Inventory& inventory) {
  std::map<std::pair<std::string, std::string>, Events> operations;
  for (const auto& [key, object] : inventory.objects) {
    const ObjectName name = ParseObjectName(key);
    if (name.kind != ObjectKind::kEvent) continue;
    RETURN_IF_ERROR(
        ReadEvent(store, object, name, inventory, operations[std::pair(name.tenant, name.id)]));
  }
  for (auto& [name, events] : operations) {
    absl::Time& since = inventory.tenants[name.first].live_since;
    const absl::Time first = events.first;
    if (IsLive(name.second, std::move(events))) since = std::min(since, first);
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view KindName(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::kCorpusMeta:
      return "corpus";
    case ObjectKind::kDocuments:
      return "documents";
    case ObjectKind::kProfile:
      return "profile";
    case ObjectKind::kManifest:
      return "manifest";
    case ObjectKind::kExpertFile:
      return "expert file";
    case ObjectKind::kExpiry:
      return "expiry";
    case ObjectKind::kEvent:
      return "operation event";
    case ObjectKind::kLease:
      return "lease";
    case ObjectKind::kModelDigest:
      return "model digest";
    case ObjectKind::kTemporary:
      return "temporary";
    case ObjectKind::kUnknown:
      return "unknown";
  }
  return "unknown";
}

ObjectName ParseObjectName(const std::string& key) {
  std::vector<std::string> parts = absl::StrSplit(key, '/');
  ObjectName name;
  name.leaf = parts.back();
  name.folder = key.substr(0, key.size() - name.leaf.size());
  if (parts.size() == 2 && parts[0] == "models" &&
      IsHex(Between(name.leaf, "digest-", ".json"), 64)) {
    name.kind = ObjectKind::kModelDigest;
  } else if (parts.size() == 2 && parts[0] == "admin" &&
             IsHex(Between(name.leaf, "now-", ""), 32)) {
    name.kind = ObjectKind::kTemporary;
  } else if (parts.size() > 3 && parts[0] == "tenants") {
    name.tenant = StrCat("tenants/", parts[1], "/");
    name.id = parts[3];
    parts.erase(parts.begin(), parts.begin() + 2);
    name.kind = KindOf(parts);
  }
  return name;
}

absl::Status MarkFrom(BlobStore& store, const std::string& key, TenantMarks& marks) {
  const ObjectName name = ParseObjectName(key);
  const bool manifest = name.kind == ObjectKind::kManifest;
  if (manifest) marks.attempts.insert(name.folder);
  ASSIGN_OR_RETURN(const std::string bytes,
                   store.ReadAll(key, manifest ? kMostBytes : kMostMetaBytes));
  return manifest ? MarkFromManifest(bytes, name, key, marks)
                  : MarkFromMeta(bytes, name, key, marks);
}

absl::StatusOr<Inventory> TakeInventory(BlobStore& store) {
  Inventory inventory;
  RETURN_IF_ERROR(ListInto(store, inventory.objects));
  RETURN_IF_ERROR(MarkAll(store, inventory));
  RETURN_IF_ERROR(FoldAll(store, inventory));
  return inventory;
}

bool IsOrphan(const Inventory& inventory, const std::string& key) {
  const ObjectName name = ParseObjectName(key);
  const auto found = inventory.tenants.find(name.tenant);
  static const TenantMarks kNone;
  const TenantMarks& marks = found == inventory.tenants.end() ? kNone : found->second;
  switch (name.kind) {
    case ObjectKind::kTemporary:
      return true;
    case ObjectKind::kDocuments:
      return !marks.corpora_unclear && !marks.expected.contains(key);
    case ObjectKind::kExpertFile:
    case ObjectKind::kExpiry:
      return !marks.attempts.contains(name.folder);
    case ObjectKind::kProfile: {
      const auto profile = marks.profiled.find(key);
      return !marks.corpora_unclear && profile != marks.profiled.end() &&
             !marks.corpora.contains(profile->second);
    }
    default:
      return false;
  }
}

}  // namespace secateur
