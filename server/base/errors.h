// What an error says beyond its code, carried on absl::Status as payloads of plain text, so that
// the domain needs no RPC types: the edge turns them into google.rpc details. Each function returns
// the status with one thing added; an OK status stays OK.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace secateur {

// The request field that is at fault, as a path: "spec.budget.neuron_ratio".
absl::Status WithField(absl::Status status, std::string_view path);
// UPPER_SNAKE, from the table in proto/README.md; without it a reason follows from the code.
absl::Status WithReason(absl::Status status, std::string_view reason);
// A resource by type and name: "secateur.dev/Corpus", "corpora/c12…".
absl::Status WithResource(absl::Status status, std::string_view type, std::string_view name);
// One more condition that does not hold, of several: what it is about, and in words what was found
// and what is wanted. Neither may hold a newline, the subject no tab.
absl::Status WithViolation(absl::Status status, std::string_view subject,
                           std::string_view description);
// When it makes sense to try again.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);

struct ErrorNotes {
  struct Violation {
    std::string subject, description;
  };
  std::string field, reason, resource_type, resource_name;
  std::vector<Violation> violations;
  std::optional<absl::Duration> retry_after;
};
ErrorNotes NotesOf(const absl::Status& status);

}  // namespace secateur
