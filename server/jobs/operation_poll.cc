#include "server/jobs/operation_poll.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/thread_pool.h"
#include "server/jobs/due.h"
#include "server/jobs/operation_errors.h"

namespace secateur {
namespace {

// What a Delete that was cut short left is removed when it is as old: no Submit takes as long
// between its listing and its writing.
constexpr absl::Duration kLeftoverAge = absl::Hours(24);
// That wait for the store at once where many operations are new, as at a start.
constexpr int kReaders = 16;

}  // namespace

absl::Status OperationPoll::Restore() {
  RETURN_IF_ERROR(parts_.leases.Renew());
  RETURN_IF_ERROR(parts_.leases.Look());
  RETURN_IF_ERROR(Scan());
  for (const OperationEntryPtr& entry : parts_.registry.Unsettled()) {
    parts_.steps.AdoptOrphan(entry, /*only_ends=*/true);
  }
  Forget();
  if (parts_.every <= absl::ZeroDuration()) return absl::OkStatus();
  const auto pause = absl::ToChronoNanoseconds(parts_.every);
  const auto renew_pause = absl::ToChronoNanoseconds(parts_.leases.renew_every() / 4);
  // Three threads: a store that does not answer holds up neither of the others.
  tickers_.push_back(std::make_unique<Ticker>(pause, [this] { Poll(); }));
  tickers_.push_back(std::make_unique<Ticker>(renew_pause, [this] {
    const absl::Status renewed = parts_.leases.Renew();
    if (renewed.ok()) return;
    Log(LogLevel::kError, "the lease could not be renewed", {{"error", renewed.ToString()}});
  }));
  tickers_.push_back(std::make_unique<Ticker>(renew_pause, [this] { Guard(); }));
  return absl::OkStatus();
}

void OperationPoll::Adopt(bool adopt) {
  MutexLock polling(polling_);
  adopting_ = adopt;
}

void OperationPoll::Stop() {
  for (const std::unique_ptr<Ticker>& ticker : tickers_) ticker->Stop();
}

void OperationPoll::Guard() {
  if (parts_.leases.held()) return;
  bool stopped = false;
  for (const OperationEntryPtr& entry : parts_.registry.Unsettled()) {
    if (!parts_.steps.workers().Has(*entry)) continue;
    parts_.steps.Suspend(entry);
    stopped = true;
  }
  if (!stopped) return;
  Log(LogLevel::kError, "work is suspended: the lease could not be renewed for too long",
      {{"owner", parts_.leases.owner()}});
}

void OperationPoll::Poll() {
  MutexLock polling(polling_);
  parts_.leases.Renew().IgnoreError();  // its own thread says so
  Guard();
  if (!parts_.leases.Look().ok()) return;  // the store is away
  for (const OperationEntryPtr& entry : parts_.registry.Unsettled()) parts_.steps.Follow(entry);
  std::set<std::string> alive = parts_.leases.alive();
  bool scan = !std::includes(alive.begin(), alive.end(), alive_.begin(), alive_.end());
  alive_ = std::move(alive);
  {
    MutexLock scanning(scanning_);
    scan = scan || IsDue(parts_.clock.Now(), scanned_, parts_.leases.renew_every());
  }
  if (scan) Scan().IgnoreError();  // next time
  Forget();
  if (!adopting_ || !parts_.leases.held()) return;
  for (const OperationEntryPtr& entry : parts_.registry.Unsettled()) {
    parts_.steps.AdoptOrphan(entry, /*only_ends=*/false);
  }
}

void OperationPoll::Refresh() {
  {
    MutexLock scanning(scanning_);
    if (!IsDue(parts_.clock.Now(), scanned_, parts_.every)) return;
  }
  Scan().IgnoreError();  // what is known is an answer, too
}

absl::Status OperationPoll::Scan() {
  MutexLock scanning(scanning_);
  const absl::Time begun = parts_.clock.Now();
  const std::vector<OperationEntryPtr> known = parts_.registry.All();
  ASSIGN_OR_RETURN(const Listing listed, parts_.store.ListAll());
  std::map<std::string, OperationStore::Keys> unreadable;
  std::vector<Listing::const_iterator> unknown;
  for (auto at = listed.begin(); at != listed.end(); ++at) {
    if (parts_.registry.Find(at->first) != nullptr) continue;
    const auto seen = unreadable_.find(at->first);
    if (seen != unreadable_.end() && seen->second == at->second.keys) {
      unreadable.insert(*seen);
    } else {
      unknown.push_back(at);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<OperationEntryPtr> found, LoadAll(unknown, unreadable));
  for (const OperationEntryPtr& entry : found) {
    parts_.registry.Add(entry, parts_.registry.Get(*entry));
  }
  RemoveGone(known, listed);
  unreadable_ = std::move(unreadable);
  scanned_ = begun;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<OperationEntryPtr>> OperationPoll::LoadAll(
    const std::vector<Listing::const_iterator>& listed,
    std::map<std::string, OperationStore::Keys>& unreadable) {
  std::vector<absl::StatusOr<OperationEntryPtr>> entries(listed.size(), nullptr);
  {
    ThreadPool readers(std::min(kReaders, static_cast<int>(listed.size()) - 1));
    for (size_t i = 0; i < listed.size(); ++i) {
      readers.Add([&, i] { entries[i] = Load(listed[i]->first, &listed[i]->second.keys); });
    }
  }
  std::vector<OperationEntryPtr> found;
  for (size_t i = 0; i < listed.size(); ++i) {
    if (absl::IsNotFound(entries[i].status())) {
      unreadable[listed[i]->first] = listed[i]->second.keys;
      RemoveLeftover(listed[i]->first, listed[i]->second);
      continue;
    }
    RETURN_IF_ERROR(entries[i].status());
    if (*entries[i] != nullptr) found.push_back(*std::move(entries[i]));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tie(a->shown.operation.create_time, a->id) <
           std::tie(b->shown.operation.create_time, b->id);
  });
  return found;
}

void OperationPoll::RemoveLeftover(const std::string& id, const OperationStore::Listed& objects) {
  if (objects.modified + kLeftoverAge >= parts_.leases.store_now()) return;
  const auto events = parts_.store.Read(id, objects.keys);
  // What is damaged stays: people may want to look at it.
  if (!events.ok() || events->size() < objects.keys.size()) return;
  // No more than these: the same request may just have been accepted again.
  absl::Status removed;
  for (const EventKey& key : objects.keys) removed.Update(parts_.store.Remove(id, key));
  Log(removed.ok() ? LogLevel::kInfo : LogLevel::kError, "removed what was left of an operation",
      {{"operation", id}, {"status", removed.ToString()}});
}

void OperationPoll::RemoveGone(const std::vector<OperationEntryPtr>& known, const Listing& listed) {
  for (const OperationEntryPtr& entry : known) {
    if (listed.contains(entry->id) || entry->behind) continue;
    if (!IsDone(parts_.registry.Get(*entry).state)) continue;  // Follow() sees to it
    {
      MutexLock lock(entry->transition);
      entry->gone = true;
    }
    parts_.registry.Remove(*entry);
  }
}

absl::StatusOr<OperationEntryPtr> OperationPoll::Load(const std::string& id,
                                                      const OperationStore::Keys* keys) {
  auto entry = std::make_shared<OperationEntry>(id);
  MutexLock lock(entry->transition);
  RETURN_IF_ERROR(keys != nullptr ? parts_.journal.Read(*entry, *keys)
                                  : parts_.journal.Read(*entry));
  const Operation operation = parts_.registry.Get(*entry);
  // Else, if it is ours, its acceptance seemed to have failed: an orphan, to be adopted.
  const bool ours = operation.owner == parts_.leases.owner() && !IsDone(operation.state);
  return ours && parts_.arriving(id) ? nullptr : entry;
}

absl::StatusOr<OperationEntryPtr> OperationPoll::Find(const std::string& id) {
  if (OperationEntryPtr known = parts_.registry.Find(id)) return known;
  absl::StatusOr<OperationEntryPtr> entry = Load(id);
  if (absl::IsNotFound(entry.status())) return OperationNotFound(id);
  RETURN_IF_ERROR(entry.status());
  if (*entry == nullptr) return OperationNotFound(id);
  return parts_.registry.Add(*entry, parts_.registry.Get(**entry));
}

void OperationPoll::Forget() {
  const absl::Time before = parts_.clock.Now() - parts_.keep_done;
  for (const OperationEntryPtr& entry : parts_.registry.ToForget(before, parts_.max_operations)) {
    MutexLock lock(entry->transition);
    // Where that fails it is found again, and forgotten again; once its end has been written.
    const bool deleted = parts_.journal.Delete(*entry).ok();
    if (deleted || !entry->behind) parts_.registry.Remove(*entry);
  }
}

}  // namespace secateur
