#include "server/jobs/operation_journal.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "server/base/crash_point.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

bool HasKey(const std::deque<StoredEvent>& events, const EventKey& key) {
  return std::any_of(events.begin(), events.end(),
                     [&key](const StoredEvent& stored) { return stored.key == key; });
}

}  // namespace

StoredEvent OperationJournal::Next(const OperationEntry& entry, int64_t epoch,
                                   const OperationEvent& event) const {
  int64_t last = 0;
  const auto see = [&](const EventKey& key) {
    if (key.epoch == epoch && key.owner == owner_) last = std::max(last, key.number);
  };
  for (const EventKey& key : entry.keys) see(key);
  for (const StoredEvent& stored : entry.unwritten) see(stored.key);
  return {{epoch, owner_, last + 1}, event};
}

void OperationJournal::Write(OperationEntry& entry, int64_t epoch, const OperationEvent& event) {
  if (entry.gone) return;
  const StoredEvent stored = Next(entry, epoch, event);
  entry.events.push_back(stored);
  entry.unwritten.push_back(stored);
  if (SeededBug("show_before_write") && IsEnd(event.kind)) {  // and the next poll writes it
    entry.behind = true;
    return Show(entry);
  }
  Flush(entry);
  Show(entry);
}

absl::Status OperationJournal::WriteNow(OperationEntry& entry, int64_t epoch,
                                        const OperationEvent& event) {
  const StoredEvent stored = Next(entry, epoch, event);
  if (SeededBug("acknowledge_before_write")) {  // and the next event, or a poll, writes it
    entry.events.push_back(stored);
    entry.unwritten.push_back(stored);
    Show(entry);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(store_.Put(entry.id, stored));
  entry.keys.insert(stored.key);
  entry.events.push_back(stored);
  Show(entry);
  return absl::OkStatus();
}

bool OperationJournal::Flush(OperationEntry& entry) {
  entry.behind = !entry.unwritten.empty();
  while (!entry.unwritten.empty()) {
    const StoredEvent next = entry.unwritten.front();
    absl::Status status;
    if (IsEnd(next.event.kind)) {
      const auto keys = store_.KeysOf(entry.id);
      status = keys.ok() ? Fetch(entry, *keys).status() : keys.status();
      if (EndedElsewhere(entry)) {
        std::erase_if(entry.events, [&entry](const StoredEvent& stored) {
          return HasKey(entry.unwritten, stored.key);
        });
        entry.unwritten.clear();
        entry.behind = false;
        Show(entry);
        return true;
      }
    }
    if (status.ok()) status = store_.Put(entry.id, next);
    if (!status.ok()) {
      if (!std::exchange(entry.refused, true)) {
        Log(LogLevel::kError, "an operation's event could not be stored yet",
            {{"operation", entry.id},
             {"waiting", std::ssize(entry.unwritten)},
             {"error", status.ToString()}});
      }
      return false;
    }
    entry.keys.insert(next.key);
    entry.unwritten.pop_front();
  }
  if (entry.behind && IsDone(registry_.Get(entry).state)) entry.events.clear();
  entry.behind = entry.refused = false;
  return true;
}

absl::StatusOr<bool> OperationJournal::Fetch(OperationEntry& entry,
                                             const OperationStore::Keys& keys) {
  if (keys == entry.keys) return false;
  OperationStore::Keys unknown;
  for (const EventKey& key : keys) {
    if (!entry.keys.contains(key) && !HasKey(entry.unwritten, key)) unknown.insert(key);
  }
  ASSIGN_OR_RETURN(std::vector<StoredEvent> events, store_.Read(entry.id, unknown));
  for (StoredEvent& stored : entry.events) {
    if (keys.contains(stored.key) || HasKey(entry.unwritten, stored.key)) {
      events.push_back(std::move(stored));
    }
  }
  entry.events = std::move(events);
  entry.keys = keys;
  return true;
}

absl::Status OperationJournal::Read(OperationEntry& entry) {
  ASSIGN_OR_RETURN(const OperationStore::Keys keys, store_.KeysOf(entry.id));
  return Read(entry, keys);
}

absl::Status OperationJournal::Read(OperationEntry& entry, const OperationStore::Keys& keys) {
  ASSIGN_OR_RETURN(const bool changed, Fetch(entry, keys));
  if (entry.keys.empty() || (changed && !Fold(entry.id, entry.events).ok())) {
    return absl::NotFoundError(StrCat("the store has no beginning of operation ", entry.id));
  }
  if (changed) Show(entry);
  return absl::OkStatus();
}

bool OperationJournal::EndedElsewhere(const OperationEntry& entry) {
  std::vector<StoredEvent> written = entry.events;
  std::erase_if(written,
                [&](const StoredEvent& stored) { return HasKey(entry.unwritten, stored.key); });
  const auto operation = Fold(entry.id, std::move(written));
  return operation.ok() && IsDone(operation->state);
}

int64_t OperationJournal::LastEpoch(const OperationEntry& entry) {
  return entry.keys.empty() ? 0 : entry.keys.rbegin()->epoch;
}

absl::Status OperationJournal::Delete(OperationEntry& entry) {
  RETURN_IF_ERROR(store_.Delete(entry.id));
  entry.unwritten.clear();
  entry.behind = false;
  entry.gone = true;
  return absl::OkStatus();
}

void OperationJournal::Show(OperationEntry& entry) {
  auto operation = Fold(entry.id, entry.events);
  if (!operation.ok()) return;  // nothing that could be shown
  const bool done = IsDone(operation->state);
  registry_.Show(entry, *std::move(operation));
  if (done && entry.unwritten.empty()) entry.events.clear();
}

}  // namespace secateur
