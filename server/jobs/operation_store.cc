#include "server/jobs/operation_store.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/base/crash_point.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/event_text.h"

namespace secateur {
namespace {

constexpr char kFolder[] = "operations/";
constexpr int64_t kMaxEventBytes = int64_t{64} << 20;
constexpr int64_t kPage = 1000;
constexpr size_t kDigits = 6;
constexpr size_t kOwnerDigits = 16;

std::string FolderOf(const std::string& id) { return StrCat(kFolder, id, "/"); }

std::string ObjectOf(const std::string& id, const EventKey& key) {
  return absl::StrFormat("%s%s/%06d.%s.%06d", kFolder, id, key.epoch, key.owner, key.number);
}

std::optional<int64_t> ParseNumber(const std::string& digits) {
  if (digits.size() < kDigits || digits.size() > 18) return std::nullopt;
  int64_t number = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') return std::nullopt;
    number = 10 * number + (digit - '0');
  }
  return number;
}

// "operations/<id>/<epoch>.<owner>.<number>" to its parts.
std::optional<std::pair<std::string, EventKey>> ParseObject(const std::string& object) {
  const std::vector<std::string> parts = absl::StrSplit(object, '/');
  if (parts.size() != 3) return std::nullopt;
  const std::vector<std::string> name = absl::StrSplit(parts[2], '.');
  if (name.size() != 3 || name[1].size() != kOwnerDigits) return std::nullopt;
  const auto epoch = ParseNumber(name[0]);
  const auto number = ParseNumber(name[2]);
  if (!epoch || !number) return std::nullopt;
  return std::pair(parts[1], EventKey{*epoch, name[1], *number});
}

// All objects below `prefix`, in key order.
absl::StatusOr<std::vector<BlobInfo>> ObjectsBelow(BlobStore& blobs, const std::string& prefix) {
  std::vector<BlobInfo> objects;
  while (true) {
    const std::string last = objects.empty() ? "" : objects.back().key;
    ASSIGN_OR_RETURN(const std::vector<BlobInfo> page, blobs.List(prefix, last, kPage));
    objects.insert(objects.end(), page.begin(), page.end());
    if (std::ssize(page) < kPage) return objects;
  }
}

absl::StatusOr<OperationEvent> ReadEvent(BlobStore& blobs, const std::string& object) {
  ASSIGN_OR_RETURN(const std::string text, blobs.ReadAll(object, kMaxEventBytes));
  return EventFromText(text);
}

}  // namespace

absl::Status OperationStore::Put(const std::string& id, const StoredEvent& event) {
  CrashPoint("operation.before_event");
  const absl::Status put = blobs_.Put(ObjectOf(id, event.key), EventToText(event.event)).status();
  CrashPoint("operation.after_event");
  return absl::IsAlreadyExists(put) ? absl::OkStatus() : put;
}

absl::StatusOr<OperationStore::Keys> OperationStore::KeysOf(const std::string& id) {
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> objects, ObjectsBelow(blobs_, FolderOf(id)));
  Keys keys;
  for (const BlobInfo& object : objects) {
    if (const auto parsed = ParseObject(object.key)) keys.insert(parsed->second);
  }
  return keys;
}

absl::StatusOr<std::map<std::string, OperationStore::Listed>> OperationStore::ListAll() {
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> objects, ObjectsBelow(blobs_, kFolder));
  std::map<std::string, Listed> all;
  for (const BlobInfo& object : objects) {
    const auto parsed = ParseObject(object.key);
    if (!parsed) continue;
    Listed& listed = all[parsed->first];
    listed.keys.insert(parsed->second);
    listed.modified = std::max(listed.modified, object.modified);
  }
  return all;
}

absl::StatusOr<std::vector<StoredEvent>> OperationStore::Read(const std::string& id,
                                                              const Keys& keys) {
  std::vector<StoredEvent> events;
  for (const EventKey& key : keys) {
    absl::StatusOr<OperationEvent> event = ReadEvent(blobs_, ObjectOf(id, key));
    if (event.ok()) {
      events.push_back({key, *std::move(event)});
    } else if (absl::IsDataLoss(event.status()) || absl::IsResourceExhausted(event.status())) {
      Log(LogLevel::kError, "an operation's event is not used",
          {{"key", ObjectOf(id, key)}, {"error", event.status().ToString()}});
    } else if (!absl::IsNotFound(event.status())) {
      return event.status();
    }
  }
  return events;
}

absl::Status OperationStore::Remove(const std::string& id, const EventKey& key) {
  return blobs_.Delete(ObjectOf(id, key));
}

absl::Status OperationStore::Delete(const std::string& id) {
  ASSIGN_OR_RETURN(const std::vector<BlobInfo> objects, ObjectsBelow(blobs_, FolderOf(id)));
  for (const BlobInfo& object : objects) RETURN_IF_ERROR(blobs_.Delete(object.key));
  return absl::OkStatus();
}

}  // namespace secateur
