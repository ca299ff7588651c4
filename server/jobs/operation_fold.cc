#include "server/jobs/operation_fold.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "server/base/strings.h"

namespace secateur {
namespace {

using Kind = OperationEvent::Kind;
using Term = std::pair<int64_t, std::string>;  // epoch, owner

Term TermOf(const StoredEvent& stored) { return {stored.key.epoch, stored.key.owner}; }

bool IsClaim(Kind kind) { return kind == Kind::kCreated || kind == Kind::kAdopted; }

// For each claimed epoch the lowest owner.
std::map<int64_t, std::string> OwnersOf(const std::set<Term>& claimed) {
  std::map<int64_t, std::string> owners;
  for (const auto& [epoch, owner] : claimed) owners.emplace(epoch, owner);  // lowest first
  return owners;
}

// What an event of an owner's term does to an operation without an end. Nothing begins before it
// was created or ends before it began, though the clock was set back.
void Count(const OperationEvent& event, Operation& operation) {
  if (event.kind == Kind::kStarted) {
    operation.state = OperationState::kRunning;
    operation.start_time = std::max(event.time, operation.create_time);
    operation.released = false;
    ++operation.starts;
  } else if (event.kind == Kind::kSuspended) {
    operation.state = OperationState::kQueued;
    operation.released = true;
    operation.starts = 0;
  }
}

void End(const StoredEvent& end, Operation& operation) {
  operation.state = end.event.kind == Kind::kSucceeded ? OperationState::kSucceeded
                    : end.event.kind == Kind::kFailed  ? OperationState::kFailed
                                                       : OperationState::kCancelled;
  operation.released = false;
  operation.end_time = std::max({end.event.time, operation.start_time, operation.create_time});
  operation.result = end.event.result;
  operation.error = end.event.error;
  operation.cancel_requested = end.event.cancel_requested;
}

}  // namespace

absl::StatusOr<Operation> Fold(const std::string& id, std::vector<StoredEvent> events) {
  std::sort(events.begin(), events.end(),
            [](const StoredEvent& a, const StoredEvent& b) { return a.key < b.key; });
  const auto begin = std::find_if(events.begin(), events.end(), [](const StoredEvent& stored) {
    return stored.event.kind == Kind::kCreated;
  });
  if (begin == events.end()) {
    return absl::NotFoundError(StrCat("operation ", id, " has no beginning"));
  }
  Operation operation{.id = id, .request = begin->event.request, .create_time = begin->event.time};
  std::erase_if(events, [first = begin->key.epoch](const StoredEvent& stored) {
    return stored.key.epoch < first;
  });
  std::set<Term> claimed;
  for (const StoredEvent& stored : events) {
    if (IsClaim(stored.event.kind)) claimed.insert(TermOf(stored));
    if (stored.event.kind == Kind::kCancelRequested) operation.cancel_requested = true;
  }
  std::map<int64_t, std::string> owners = OwnersOf(claimed);
  const auto end = std::find_if(events.begin(), events.end(), [&](const StoredEvent& stored) {
    return IsEnd(stored.event.kind) && claimed.contains(TermOf(stored));
  });
  if (end != events.end()) {
    owners.erase(owners.lower_bound(end->key.epoch), owners.end());
    owners.emplace(end->key.epoch, end->key.owner);
  }
  std::tie(operation.epoch, operation.owner) = *owners.rbegin();
  for (const StoredEvent& stored : events) {
    const auto owner = owners.find(stored.key.epoch);
    if (owner == owners.end() || owner->second != stored.key.owner) continue;
    if (end != events.end() && stored.key > end->key) continue;
    if (IsClaim(stored.event.kind)) {  // nobody is at it yet
      operation.state = OperationState::kQueued;
      operation.released = false;
    }
    Count(stored.event, operation);
  }
  if (end != events.end()) End(*end, operation);
  return operation;
}

}  // namespace secateur
