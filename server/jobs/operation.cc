#include "server/jobs/operation.h"

namespace secateur {

bool IsDone(OperationState state) {
  return state == OperationState::kSucceeded || state == OperationState::kFailed ||
         state == OperationState::kCancelled;
}

bool IsEnd(OperationEvent::Kind kind) {
  return kind == OperationEvent::Kind::kSucceeded || kind == OperationEvent::Kind::kFailed ||
         kind == OperationEvent::Kind::kCancelled;
}

}  // namespace secateur
