// A long request as the caller sees it: a name, a state, progress, a result or an error.
//
// What is kept of an operation is a set of events, each written once; the operation is a fold over
// them (operation_fold.h). Progress is not kept: it is of the process that works. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace secateur {

// States say what has already happened; see OperationMetadata.State of the API for the same words.
enum class OperationState {
  kQueued,     // accepted, and no worker is at it
  kRunning,    // a worker has started
  kSucceeded,  // the result is there
  kFailed,     // the reason is there
  kCancelled,  // stopped on request
};

bool IsDone(OperationState state);

// A message by its full type name, serialized: jobs carry results without knowing them.
struct TypedBytes {
  std::string type;  // "secateur.v1.Expert"
  std::string bytes;
};

struct OperationRequest {
  std::string method;      // "CreateExpert": which factory makes the job
  std::string target;      // resource name the work is about
  std::string request_id;  // of the caller; may be empty
  std::string request;     // serialized; the factory reads it
};

struct OperationEvent {
  enum class Kind {
    kCreated,  // accepted by a process, which is to do it
    kAdopted,  // taken over by another one
    kStarted,
    kSuspended,  // the process that was at it has left it to the next, in good order
    kCancelRequested,
    kSucceeded,
    kFailed,
    kCancelled
  };
  Kind kind = Kind::kCreated;
  absl::Time time;
  OperationRequest request;  // kCreated
  TypedBytes result;         // kSucceeded
  absl::Status error;        // kFailed, kCancelled
  // Of the three ends: whether Cancel had been asked for, as far as whoever ended it knew.
  bool cancel_requested = false;
};
bool IsEnd(OperationEvent::Kind kind);  // kSucceeded, kFailed, kCancelled

// How far the present phase is.
struct OperationProgress {
  std::string phase, unit;
  int64_t done = 0;
  int64_t total = 0;  // 0: not known
  double rate = 0;    // units a second over this phase so far
  absl::Duration eta = absl::InfiniteDuration();
  double tokens_per_second = 0;  // of the last phase counted in tokens
};

struct Operation {
  std::string id;  // "o" + 40 hex digits
  OperationRequest request;
  OperationState state = OperationState::kQueued;
  bool cancel_requested = false;
  // The process that is to do it, or that has ended it; several may share one store.
  std::string owner;
  int64_t epoch = 0;      // counts its owners
  bool released = false;  // the owner has left it to the next
  // True when this process is shutting down and has nothing more to tell about it; others have.
  bool suspended = false;
  int64_t starts = 0;  // by workers, since the last kSuspended
  absl::Time create_time, end_time = absl::InfinitePast();
  absl::Time start_time = absl::InfinitePast();  // of the last start
  TypedBytes result;
  absl::Status error;
  OperationProgress progress;
};

}  // namespace secateur
