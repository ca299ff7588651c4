// Operations as text.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/context.h"
#include "client/cli/table.h"
#include "client/operation.h"

namespace secateur::cli {

Table OperationTable(const std::vector<google::longrunning::Operation>& operations);
// State, progress and, once it failed, why, on one line.
std::string OperationLine(const google::longrunning::Operation& operation);
// What --no-wait shows: the operation's name and how to follow it.
absl::Status PrintStarted(const OperationHandle& operation, Context& context);

}  // namespace secateur::cli
