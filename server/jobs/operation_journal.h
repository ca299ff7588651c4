// Events of operations on their way between memory and store.
//
// What this process writes is durable before it is shown; what the store refuses is shown anyway,
// kept in order and tried again: work that is done is not undone because a store was full. Ends are
// written after a look at the store: where another process's end is there already, that one stands
// and ours is dropped. What other processes write is shown as soon as it has been read.
//
// Thread-safe; works on one operation at a time, whose `transition` the caller holds. Bounded by
// the operations that are known, each of which has a handful of events.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "server/jobs/operation_entry.h"
#include "server/jobs/operation_registry.h"
#include "server/jobs/operation_store.h"

namespace secateur {

class OperationJournal {
 public:
  // All must outlive it. `owner` names this process.
  OperationJournal(OperationStore& store, OperationRegistry& registry, const std::string& owner)
      : store_(store), registry_(registry), owner_(owner) {}

  // Writes an event of this process's term of `epoch`, and shows what it makes of the operation.
  // Errors are logged.
  void Write(OperationEntry& entry, int64_t epoch, const OperationEvent& event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  // An event that counts only when it is in the store: else the store's error and nothing changes.
  absl::Status WriteNow(OperationEntry& entry, int64_t epoch, const OperationEvent& event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  // Tries what the store refused once more. True when nothing is left.
  bool Flush(OperationEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);

  // Reads what the store has of it and shows it if that is something new. NOT_FOUND when it is not
  // there, or not any more: then nothing is shown.
  absl::Status Read(OperationEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  // The same, by a listing that is there already; what was written since is not seen.
  absl::Status Read(OperationEntry& entry, const OperationStore::Keys& keys)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  // The highest epoch that an object of it names, readable or not; 0 when there is none.
  static int64_t LastEpoch(const OperationEntry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);

  // All of it, what was not written yet included. After an error it is as before, but for objects
  // that went.
  absl::Status Delete(OperationEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);

 private:
  StoredEvent Next(const OperationEntry& entry, int64_t epoch, const OperationEvent& event) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  // Makes events and keys those of the store, which has `keys`, and what is not written yet. True
  // when that changes anything.
  absl::StatusOr<bool> Fetch(OperationEntry& entry, const OperationStore::Keys& keys)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  // Whether it has an end without what is not written yet.
  static bool EndedElsewhere(const OperationEntry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);
  void Show(OperationEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.transition);

  OperationStore& store_;
  OperationRegistry& registry_;
  const std::string owner_;
};

}  // namespace secateur
