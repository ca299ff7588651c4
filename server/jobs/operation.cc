#include "server/jobs/operation.h"

#include "server/base/strings.h"

namespace secateur {

bool IsDone(OperationState state) {
  return state == OperationState::kSucceeded || state == OperationState::kFailed ||
         state == OperationState::kCancelled;
}

void Advance(const OperationEvent& event, Operation& operation) {
  if (IsDone(operation.state)) return;
  switch (event.kind) {
    case OperationEvent::Kind::kCreated:
      operation.request = event.request;
      operation.create_time = event.time;
      return;
    case OperationEvent::Kind::kStarted:
      operation.state = OperationState::kRunning;
      operation.start_time = event.time;
      ++operation.starts;
      return;
    case OperationEvent::Kind::kSuspended:
      operation.state = OperationState::kQueued;
      operation.starts = 0;
      return;
    case OperationEvent::Kind::kCancelRequested:
      operation.cancel_requested = true;
      return;
    case OperationEvent::Kind::kSucceeded:
      operation.state = OperationState::kSucceeded;
      operation.result = event.result;
      break;
    case OperationEvent::Kind::kFailed:
      operation.state = OperationState::kFailed;
      operation.error = event.error;
      break;
    case OperationEvent::Kind::kCancelled:
      operation.state = OperationState::kCancelled;
      operation.error = event.error;
      break;
  }
  operation.end_time = event.time;
}

absl::StatusOr<Operation> Fold(const std::string& id, const std::vector<OperationEvent>& events) {
  if (events.empty() || events[0].kind != OperationEvent::Kind::kCreated) {
    return absl::InternalError(StrCat("operation ", id, " does not begin with its creation"));
  }
  Operation operation{.id = id};
  for (const OperationEvent& event : events) Advance(event, operation);
  return operation;
}

}  // namespace secateur
