// What the program's exit codes mean, and how errors are shown.
#pragma once

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace secateur::cli {

enum ExitCode {
  kOk = 0,
  kOther = 1,
  kUsage = 2,
  kNotFound = 3,
  kPrecondition = 4,
  kUnavailable = 5,
  kPermission = 6,
  kOperationFailed = 7,
  kResourceExhausted = 8,
  kDataLoss = 9,
  kDetached = 130,
};

// The table of exit codes for --help.
extern const char kExitCodeHelp[];

// The status with an exit code of its own instead of the one that follows from its code.
absl::Status WithExitCode(absl::Status status, ExitCode code);
ExitCode ExitCodeOf(const absl::Status& status);

// The same error with "prefix: " before its message.
absl::Status WithPrefix(const std::string& prefix, const absl::Status& status);

// The error's message and details, and what to do about it. `server` is the address in use.
void PrintError(const absl::Status& status, const std::string& server, std::ostream& err);

}  // namespace secateur::cli
