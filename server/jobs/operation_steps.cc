#include "server/jobs/operation_steps.h"

#include <utility>

#include "server/base/errors.h"
#include "server/base/log.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/jobs/operation_errors.h"

namespace secateur {
namespace {

using Kind = OperationEvent::Kind;

std::string_view Name(OperationState state) {
  switch (state) {
    case OperationState::kQueued:
      return "queued";
    case OperationState::kRunning:
      return "running";
    case OperationState::kSucceeded:
      return "succeeded";
    case OperationState::kFailed:
      return "failed";
    case OperationState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

absl::Status CancelledBeforeItStarted() {
  return absl::CancelledError("cancelled before it started");
}

}  // namespace

OperationSteps::OperationSteps(Parts parts)
    : parts_(std::move(parts)),
      registry_(parts_.registry),
      journal_(parts_.journal),
      leases_(parts_.leases),
      workers_(
          parts_.workers,
          [this](const OperationEntryPtr& entry, RunContext& context) { Run(entry, context); },
          [this](OperationEntry& entry, const Progress& progress) {
            registry_.Report(entry, progress);
          },
          parts_.clock, parts_.metrics) {}

void OperationSteps::TakeOn(const OperationEntryPtr& entry, Admission::Reservation place) {
  const Operation operation = registry_.Get(*entry);
  entry->own_epoch = operation.epoch;
  parts_.metrics.OperationStarted(operation.request.method);
  workers_.Add(entry, std::move(place));
}

void OperationSteps::End(OperationEntry& entry, OperationEvent end) {
  workers_.GiveBack(entry);  // before anybody sees that it is done, and asks for more
  end.time = parts_.clock.Now();
  journal_.Write(entry, entry.own_epoch, end);
  const Operation operation = registry_.Get(entry);
  if (!IsDone(operation.state)) {  // deleted meanwhile
    return parts_.metrics.OperationLeft(operation.request.method);
  }
  const double seconds = absl::ToDoubleSeconds(operation.end_time - operation.create_time);
  parts_.metrics.OperationEnded(operation.request.method, Name(operation.state), seconds);
  Log(operation.state == OperationState::kFailed ? LogLevel::kWarning : LogLevel::kInfo,
      "operation done",
      {{"operation", operation.id},
       {"method", operation.request.method},
       {"target", operation.request.target},
       {"state", Name(operation.state)},
       {"seconds", seconds},
       {"error", operation.error.ok() ? std::string() : operation.error.ToString()}});
}

bool OperationSteps::IsOurs(const OperationEntry& entry, const Operation& operation) const {
  return !entry.gone && operation.owner == leases_.owner() && operation.epoch == entry.own_epoch;
}

bool OperationSteps::IsOrphan(const OperationEntry& entry, const Operation& operation) const {
  if (IsDone(operation.state) || workers_.Has(entry)) return false;
  // What is ours and not at work here was suspended, or its acceptance seemed to have failed.
  return operation.released || operation.owner == leases_.owner() ||
         !leases_.Alive(operation.owner);
}

absl::Status OperationSteps::Cancel(const OperationEntryPtr& entry) {
  workers_.Stop(*entry, StopReason::kCancel);  // however long the store takes
  MutexLock lock(entry->transition);
  Operation operation = registry_.Get(*entry);
  if (entry->gone || IsDone(operation.state)) return absl::OkStatus();
  if (workers_.Has(*entry) && IsOurs(*entry, operation)) {
    if (!operation.cancel_requested) CancelHere(entry);
    return absl::OkStatus();
  }
  if (leases_.held() && IsOrphan(*entry, operation) && Claim(entry)) {
    parts_.metrics.OperationStarted(operation.request.method);
    End(*entry,
        {.kind = Kind::kCancelled, .error = CancelledBeforeItStarted(), .cancel_requested = true});
    return absl::OkStatus();
  }
  operation = registry_.Get(*entry);
  if (operation.cancel_requested || IsDone(operation.state)) return absl::OkStatus();
  return journal_.WriteNow(*entry, operation.epoch,
                           {.kind = Kind::kCancelRequested, .time = parts_.clock.Now()});
}

void OperationSteps::CancelHere(const OperationEntryPtr& entry) {
  journal_.Write(*entry, entry->own_epoch,
                 {.kind = Kind::kCancelRequested, .time = parts_.clock.Now()});
  if (!workers_.Withdraw(entry)) return workers_.Stop(*entry, StopReason::kCancel);
  End(*entry,
      {.kind = Kind::kCancelled, .error = CancelledBeforeItStarted(), .cancel_requested = true});
}

bool OperationSteps::Follow(const OperationEntryPtr& entry) {
  MutexLock lock(entry->transition);
  if (entry->gone) return false;
  journal_.Flush(*entry);
  if (IsDone(registry_.Get(*entry).state)) return true;
  const absl::Status read = journal_.Read(*entry);
  if (!read.ok() && !absl::IsNotFound(read)) return true;  // the store is away
  if (absl::IsNotFound(read)) entry->gone = true;
  const Operation operation = registry_.Get(*entry);
  if (entry->gone || IsDone(operation.state) || !IsOurs(*entry, operation)) {
    if (workers_.Withdraw(entry)) parts_.metrics.OperationLeft(operation.request.method);
    workers_.Stop(*entry, StopReason::kYield);
  } else if (operation.cancel_requested && workers_.Withdraw(entry)) {
    End(*entry,
        {.kind = Kind::kCancelled, .error = CancelledBeforeItStarted(), .cancel_requested = true});
  } else if (operation.cancel_requested) {
    workers_.Stop(*entry, StopReason::kCancel);
  }
  if (entry->gone) registry_.Remove(*entry);
  return !entry->gone;
}

void OperationSteps::AdoptOrphan(const OperationEntryPtr& entry, bool only_ends) {
  MutexLock lock(entry->transition);
  Operation operation = registry_.Get(*entry);
  if (entry->gone || !IsOrphan(*entry, operation)) return;
  registry_.ShowLeft(*entry);
  if (only_ends && !EndOfLeft(operation)) return;
  // A newer server may know the method.
  if (!Knows(operation.request.method) && leases_.alive().size() > 1) return;
  const std::string before = operation.owner;
  if (!Claim(entry)) return;
  operation = registry_.Get(*entry);
  Log(LogLevel::kInfo, "operation adopted",
      {{"operation", operation.id}, {"epoch", operation.epoch}, {"from", before}});
  parts_.metrics.operations_adopted.Increment();
  auto end = EndOfLeft(operation);
  if (!end) return TakeOn(entry, parts_.take_on(operation.request));
  parts_.metrics.OperationStarted(operation.request.method);
  End(*entry, *std::move(end));
}

bool OperationSteps::Claim(const OperationEntryPtr& entry) {
  if (!journal_.Flush(*entry) || !journal_.Read(*entry).ok()) return false;
  if (!leases_.Look().ok()) return false;  // its owner may have come after the last look
  if (!IsOrphan(*entry, registry_.Get(*entry))) return false;
  const int64_t epoch = OperationJournal::LastEpoch(*entry) + 1;
  absl::Status claimed =
      journal_.WriteNow(*entry, epoch, {.kind = Kind::kAdopted, .time = parts_.clock.Now()});
  if (claimed.ok()) claimed = journal_.Read(*entry);  // did another claim it, too?
  if (!claimed.ok()) {
    Log(LogLevel::kWarning, "an operation could not be adopted yet",
        {{"operation", entry->id}, {"error", claimed.ToString()}});
    return false;
  }
  entry->own_epoch = epoch;
  const Operation operation = registry_.Get(*entry);
  return IsOurs(*entry, operation) && !IsDone(operation.state);
}

std::optional<OperationEvent> OperationSteps::EndOfLeft(const Operation& operation) const {
  if (operation.cancel_requested) {
    return OperationEvent{
        .kind = Kind::kCancelled,
        .error = absl::CancelledError("cancelled, and the server stopped before the work did"),
        .cancel_requested = true};
  }
  if (operation.starts >= parts_.max_starts) {
    return OperationEvent{
        .kind = Kind::kFailed,
        .error = absl::InternalError(StrCat("the server stopped ", operation.starts,
                                            " times while this ran, and does not try again: its "
                                            "log may say why"))};
  }
  if (!Knows(operation.request.method)) {
    return OperationEvent{.kind = Kind::kFailed,
                          .error = absl::UnimplementedError(StrCat(
                              "this version of the server knows no ", operation.request.method))};
  }
  return std::nullopt;
}

void OperationSteps::EndOverdue(absl::Duration limit) {
  if (!leases_.held()) return;  // others may have it by now
  for (const OperationEntryPtr& entry : workers_.Overdue(limit)) {
    MutexLock lock(entry->transition);
    const auto waited = workers_.WithdrawOverdue(entry, limit);
    if (!waited) continue;  // a worker has it, or it was cancelled
    const Operation operation = registry_.Get(*entry);
    if (!IsOurs(*entry, operation) || IsDone(operation.state)) {
      parts_.metrics.OperationLeft(operation.request.method);
      continue;
    }
    const absl::Status error = QueueDeadlineError(*waited, limit);
    parts_.metrics.OperationRefused(operation.request.method, NotesOf(error).reason);
    End(*entry, {.kind = Kind::kFailed, .error = error});
  }
}

void OperationSteps::Suspend(const OperationEntryPtr& entry) {
  if (!workers_.Withdraw(entry)) return workers_.Stop(*entry, StopReason::kSuspend);
  parts_.metrics.OperationLeft(registry_.Get(*entry).request.method);
}

void OperationSteps::Run(const OperationEntryPtr& entry, RunContext& context) {
  Operation operation;
  bool adopted = false;
  {
    MutexLock lock(entry->transition);
    operation = registry_.Get(*entry);
    const StopReason stop = workers_.ReasonToStop(*entry);
    const bool ours = IsOurs(*entry, operation) && !IsDone(operation.state);
    if (ours && stop == StopReason::kCancel) {
      return End(*entry, {.kind = Kind::kCancelled,
                          .error = CancelledBeforeItStarted(),
                          .cancel_requested = true});
    }
    if (!ours || stop != StopReason::kNone) {
      return parts_.metrics.OperationLeft(operation.request.method);
    }
    adopted = entry->own_epoch > 1;
    journal_.Write(*entry, entry->own_epoch, {.kind = Kind::kStarted, .time = parts_.clock.Now()});
  }
  absl::StatusOr<TypedBytes> result = Execute(operation.request, adopted, context);
  registry_.EndPhase(*entry);
  MutexLock lock(entry->transition);
  Finish(*entry, std::move(result));
}

absl::StatusOr<TypedBytes> OperationSteps::Execute(const OperationRequest& request, bool adopted,
                                                   RunContext& context) const {
  if (adopted && parts_.before_adopted) parts_.before_adopted();
  ASSIGN_OR_RETURN(Job job, parts_.factories.at(request.method)(request));
  RETURN_IF_ERROR(context.CheckCancelled());
  return job(context);
}

void OperationSteps::Finish(OperationEntry& entry, absl::StatusOr<TypedBytes> result) {
  const Operation operation = registry_.Get(entry);
  const StopReason stop = workers_.ReasonToStop(entry);
  const bool cancelled = operation.cancel_requested || stop == StopReason::kCancel;
  const bool done = entry.gone || IsDone(operation.state);
  if (result.ok() && !done) {  // also when it is another's by now: nobody has to do it again
    return End(
        entry,
        {.kind = Kind::kSucceeded, .result = *std::move(result), .cancel_requested = cancelled});
  }
  if (done || !IsOurs(entry, operation) || stop == StopReason::kYield) {
    return parts_.metrics.OperationLeft(operation.request.method);
  }
  const absl::Status& error = result.status();
  if (stop == StopReason::kSuspend && (absl::IsCancelled(error) || absl::IsUnavailable(error))) {
    // Where this cannot be written it counts as one more start.
    journal_.Write(entry, entry.own_epoch, {.kind = Kind::kSuspended, .time = parts_.clock.Now()});
    return parts_.metrics.OperationLeft(operation.request.method);
  }
  End(entry, {.kind = absl::IsCancelled(error) ? Kind::kCancelled : Kind::kFailed,
              .error = error,
              .cancel_requested = cancelled});
}

}  // namespace secateur
