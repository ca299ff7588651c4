// Keeps what this process knows of operations in step with its store, where other processes may be
// at work: renews the lease, follows what is not done, finds what is new, adopts orphans, forgets
// what has been done for long, and suspends all work when the lease may have lapsed.
//
// A poll lists the leases and, one by one, the operations that are not done. All operations are
// listed when a process is gone, and otherwise as often as leases are renewed.
//
// Thread-safe. Works with the store; nothing here is called on gRPC's threads.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/ticker.h"
#include "server/jobs/leases.h"
#include "server/jobs/operation_journal.h"
#include "server/jobs/operation_registry.h"
#include "server/jobs/operation_steps.h"
#include "server/jobs/operation_store.h"

namespace secateur {

class OperationPoll {
 public:
  struct Parts {
    absl::Duration every;      // zero: only Poll() and Restore() do anything
    absl::Duration keep_done;  // then done operations are forgotten
    int64_t max_operations = 0;
    std::function<bool(const std::string& id)> arriving;  // whether it is being accepted right now
    OperationStore& store;
    OperationRegistry& registry;
    OperationJournal& journal;
    Leases& leases;
    OperationSteps& steps;
    const Clock& clock;
  };
  // What `parts` refers to must outlive it.
  explicit OperationPoll(const Parts& parts) : parts_(parts) {}

  // The first poll, which must succeed; then polls on threads of its own. Orphans are adopted only
  // if that ends them at once, until Adopt(true).
  absl::Status Restore();
  void Adopt(bool adopt);
  void Poll();
  // Nothing happens by itself any more, and the lease is not renewed.
  void Stop();

  // Lists all operations, unless that was done a moment ago.
  void Refresh();
  // An operation that is known, or that the store has. NOT_FOUND, or the store's error.
  absl::StatusOr<OperationEntryPtr> Find(const std::string& id);
  // Forgets what is done for too long, and the oldest where there are too many; a few at a time.
  void Forget();

 private:
  // Suspends what this process works on if its lease may have lapsed.
  void Guard();
  absl::Status Scan() ABSL_LOCKS_EXCLUDED(scanning_);
  // Reads an operation that is not known; `keys`: if it has been listed. Null when it is being
  // accepted here right now; NOT_FOUND when the store has no beginning of it.
  absl::StatusOr<OperationEntryPtr> Load(const std::string& id,
                                         const OperationStore::Keys* keys = nullptr);
  // Of listed operations those that can be read, oldest first; the others become `unreadable`.
  using Listing = std::map<std::string, OperationStore::Listed>;
  absl::StatusOr<std::vector<OperationEntryPtr>> LoadAll(
      const std::vector<Listing::const_iterator>& listed,
      std::map<std::string, OperationStore::Keys>& unreadable);
  // Removes what a Delete left that was cut short.
  void RemoveLeftover(const std::string& id, const OperationStore::Listed& objects);
  void RemoveGone(const std::vector<OperationEntryPtr>& known, const Listing& listed);

  const Parts parts_;
  Mutex polling_;
  bool adopting_ ABSL_GUARDED_BY(polling_) = false;
  std::set<std::string> alive_ ABSL_GUARDED_BY(polling_);
  Mutex scanning_;
  absl::Time scanned_ ABSL_GUARDED_BY(scanning_) = absl::InfinitePast();
  // Of what cannot be read as an operation; looked at again when there is more of it.
  std::map<std::string, OperationStore::Keys> unreadable_ ABSL_GUARDED_BY(scanning_);
  std::vector<std::unique_ptr<Ticker>> tickers_;
};

}  // namespace secateur
