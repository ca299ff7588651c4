#include "server/base/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr absl::string_view kField = "secateur.dev/field";
constexpr absl::string_view kReason = "secateur.dev/reason";
constexpr absl::string_view kResourceType = "secateur.dev/resource-type";
constexpr absl::string_view kResourceName = "secateur.dev/resource-name";
constexpr absl::string_view kViolations = "secateur.dev/violations";  // subject, tab, words; lines
constexpr absl::string_view kRetryMillis = "secateur.dev/retry-millis";

absl::Status With(absl::Status status, absl::string_view key, std::string_view value) {
  if (!status.ok()) status.SetPayload(key, absl::Cord(ToAbsl(value)));
  return status;
}

std::string Payload(const absl::Status& status, absl::string_view key) {
  const auto payload = status.GetPayload(key);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace

absl::Status WithField(absl::Status status, std::string_view path) {
  return With(std::move(status), kField, path);
}

absl::Status WithReason(absl::Status status, std::string_view reason) {
  return With(std::move(status), kReason, reason);
}

absl::Status WithResource(absl::Status status, std::string_view type, std::string_view name) {
  return With(With(std::move(status), kResourceType, type), kResourceName, name);
}

absl::Status WithViolation(absl::Status status, std::string_view subject,
                           std::string_view description) {
  const std::string before = Payload(status, kViolations);
  return With(std::move(status), kViolations, StrCat(before, subject, "\t", description, "\n"));
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  return With(std::move(status), kRetryMillis, StrCat(absl::ToInt64Milliseconds(delay)));
}

ErrorNotes NotesOf(const absl::Status& status) {
  ErrorNotes notes{.field = Payload(status, kField),
                   .reason = Payload(status, kReason),
                   .resource_type = Payload(status, kResourceType),
                   .resource_name = Payload(status, kResourceName),
                   .violations = {},
                   .retry_after = std::nullopt};
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(Payload(status, kViolations), '\n'))) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits('\t', 1));
    if (parts.size() == 2) notes.violations.push_back({parts[0], parts[1]});
  }
  int64_t millis = 0;
  if (absl::SimpleAtoi(Payload(status, kRetryMillis), &millis)) {
    notes.retry_after = absl::Milliseconds(millis);
  }
  return notes;
}

}  // namespace secateur
