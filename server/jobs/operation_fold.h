// The operation that a set of events makes: whatever the order in which they arrive, the same set
// is the same operation, in every process. No store is asked to compare and swap.
//
// A term is what one owner writes in one epoch: its events are numbered in order. A term is claimed
// when it holds kCreated or kAdopted; in any other only kCancelRequested counts. Then:
//
// - The beginning is the kCreated of the lowest key. Epochs below it count for nothing: they are
//   left of an earlier beginning that was damaged.
// - An end beats everything that is not one. Of several, the lowest epoch counts, then the lowest
//   owner, then the lowest number: whoever ended it first by that order has ended it, and later
//   events of all others change nothing. Whether a cancel had been asked for is as that end says.
// - Without an end the owner is, of the highest claimed epoch, the lowest that claims it; a process
//   that finds another in its place yields. The operation runs when the owner's term has started
//   and was not suspended after that; else it waits.
// - Starts are counted over the owners of all epochs up to that term, from the last that suspended.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jobs/operation.h"

namespace secateur {

// Names an event within its operation. Keys are ordered as they say: epoch, owner, number.
struct EventKey {
  int64_t epoch = 0;  // from 1
  std::string owner;
  int64_t number = 0;  // from 1, within the term
  friend bool operator==(const EventKey&, const EventKey&) = default;
  friend auto operator<=>(const EventKey&, const EventKey&) = default;
};

struct StoredEvent {
  EventKey key;
  OperationEvent event;
};

// NOT_FOUND when no event is the creation. Events of one key are the same event.
absl::StatusOr<Operation> Fold(const std::string& id, std::vector<StoredEvent> events);

}  // namespace secateur
