#include "client/cli/exit_code.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/format.h"
#include "client/status.h"

namespace secateur::cli {
namespace {

constexpr char kExitCodeUrl[] = "secateur.dev/exit-code";

ExitCode FromStatusCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kInvalidArgument:
      return kUsage;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return kPrecondition;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnavailable;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kPermission;
    case absl::StatusCode::kResourceExhausted:
      return kResourceExhausted;
    case absl::StatusCode::kDataLoss:
      return kDataLoss;
    default:
      return kOther;
  }
}

// The command that lists resources of a type: "secateur.dev/Corpus" to "corpus".
std::string ListCommand(const std::string& resource_type) {
  for (const auto& [type, group] :
       {std::pair("secateur.dev/Model", "model"), std::pair("secateur.dev/Corpus", "corpus"),
        std::pair("secateur.dev/Profile", "profile"), std::pair("secateur.dev/Expert", "expert")}) {
    if (resource_type == type) return absl::StrCat("secateur ", group, " list");
  }
  return "";
}

// What the user can do next; empty when the message says it all.
std::string Hint(const absl::Status& status, const StatusDetails& details,
                 const std::string& server) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      // A server that refuses says why; without a reason nobody answered.
      if (!details.reason.empty()) return "";
      return absl::StrCat("is secateurd running at ", server,
                          "? start it with: secateurd --model NAME=FOLDER --store URI\n"
                          "another address is given with --server or SECATEUR_SERVER; "
                          "a server with TLS needs --ca");
    case absl::StatusCode::kDeadlineExceeded:
      return absl::StrCat(server, " did not answer in time; try again");
    case absl::StatusCode::kUnauthenticated:
      return "give a token with --token-file, or a certificate with --cert and --key";
    case absl::StatusCode::kFailedPrecondition:
      if (details.reason == "PROFILE_MISSING") return "make them with: secateur profile create";
      if (details.reason == "NO_CORPUS_FOR_LABEL") return "known labels: secateur dimension list";
      return "";
    case absl::StatusCode::kNotFound: {
      const std::string command = ListCommand(details.resource_type);
      return command.empty() ? "" : "known ones: " + command;
    }
    default:
      return "";
  }
}

}  // namespace

const char kExitCodeHelp[] =
    "Exit codes:\n"
    "  0    done\n"
    "  1    another error\n"
    "  2    usage: an option or a value is wrong, as seen here or by the server\n"
    "  3    not found\n"
    "  4    a precondition does not hold, or what was asked is out of reach\n"
    "  5    the server is not available or did not answer in time\n"
    "  6    not allowed: permission or authentication\n"
    "  7    the operation failed or was cancelled\n"
    "  8    a limit is reached: queue, memory, disk\n"
    "  9    data loss: bytes do not match their digest\n"
    "  130  Ctrl-C: no longer waiting; the operation goes on";

absl::Status WithExitCode(absl::Status status, ExitCode code) {
  status.SetPayload(kExitCodeUrl, absl::Cord(absl::StrCat(static_cast<int>(code))));
  return status;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kExitCodeUrl);
  int code = 0;
  if (payload.has_value() && absl::SimpleAtoi(std::string(*payload), &code)) {
    return static_cast<ExitCode>(code);
  }
  return FromStatusCode(status.code());
}

absl::Status WithPrefix(const std::string& prefix, const absl::Status& status) {
  absl::Status out(status.code(), absl::StrCat(prefix, ": ", std::string(status.message())));
  status.ForEachPayload(
      [&out](absl::string_view url, const absl::Cord& payload) { out.SetPayload(url, payload); });
  return out;
}

void PrintError(const absl::Status& status, const std::string& server, std::ostream& err) {
  const StatusDetails details = DetailsOfStatus(status);
  const std::string message(status.message());
  err << "secateur: " << Printable(message) << "\n";
  if (ExitCodeOf(status) == kDetached) return;
  for (const auto& violation : details.fields) {
    if (violation.description == message || violation.description.empty()) {
      err << "  field: " << Printable(violation.field) << "\n";
    } else {
      err << "  " << Printable(violation.field) << ": " << Printable(violation.description) << "\n";
    }
  }
  for (const std::string& violation : details.violations) {
    if (violation != message) err << "  " << Printable(violation) << "\n";
  }
  err << "  code: " << absl::StatusCodeToString(status.code());
  if (!details.reason.empty()) err << ", reason: " << Printable(details.reason);
  err << "\n";
  if (details.retry_after.has_value()) {
    err << "  try again in " << FormatTimeSpan(*details.retry_after) << "\n";
  }
  if (ExitCodeOf(status) == kOperationFailed) return;  // hints are about reaching the server
  const std::string hint = Hint(status, details, server);
  if (!hint.empty()) err << hint << "\n";
}

}  // namespace secateur::cli
