#include "server/jobs/operation_errors.h"

#include "absl/strings/str_format.h"
#include "server/base/errors.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr absl::Duration kTryAgain = absl::Seconds(1);
// After a queue that did not move for so long.
constexpr absl::Duration kTryMuchLater = absl::Minutes(1);

std::string Seconds(absl::Duration duration) {
  return absl::StrFormat("%.0f s", absl::ToDoubleSeconds(duration));
}

}  // namespace

absl::Status OperationNotFound(const std::string& id) {
  const std::string name = StrCat("operations/", id);
  return WithResource(absl::NotFoundError(StrCat(name,
                                                 " is not known: it was deleted, forgotten after "
                                                 "it was done, or belongs to another store")),
                      "google.longrunning.Operation", name);
}

absl::Status DrainingError() {
  return WithReason(WithRetryAfter(absl::UnavailableError(
                                       "the server is shutting down and takes no new work; try "
                                       "again, another replica will answer"),
                                   kTryAgain),
                    "DRAINING");
}

absl::Status SuspendedError(const std::string& id) {
  return WithReason(WithRetryAfter(absl::UnavailableError(
                                       StrCat("the server is shutting down; operations/", id,
                                              " goes on in another one on its store: ask again")),
                                   kTryAgain),
                    "DRAINING");
}

absl::Status QueueDeadlineError(absl::Duration waited, absl::Duration limit) {
  return WithReason(
      WithRetryAfter(absl::ResourceExhaustedError(
                         StrCat("no worker was free for ", Seconds(waited),
                                ", and nothing waits longer "
                                "than ",
                                Seconds(limit),
                                " (--max-queue-seconds): ask again, with another request_id, when "
                                "fewer operations are under way, or raise it or "
                                "--workers")),
                     kTryMuchLater),
      "QUEUE_DEADLINE");
}

}  // namespace secateur
