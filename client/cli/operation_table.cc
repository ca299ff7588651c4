#include "client/cli/operation_table.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/format.h"
#include "client/cli/progress.h"

namespace secateur::cli {
namespace {

using google::longrunning::Operation;

std::string FormatState(const v1::OperationMetadata& metadata) {
  return FormatEnum(*v1::OperationMetadata::State_descriptor(), metadata.state());
}

// Progress while it runs, the error once it has one.
std::string FormatDetail(const Operation& operation, const v1::OperationMetadata& metadata) {
  if (operation.has_error()) return operation.error().message();
  if (operation.done() || metadata.progress().phase().empty()) return "-";
  return FormatProgress(metadata);
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

std::string FormatStart(const v1::OperationMetadata& metadata) {
  if (!metadata.has_create_time()) return "-";
  const absl::Time time = absl::FromUnixSeconds(metadata.create_time().seconds());
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", time, absl::LocalTimeZone());
}

}  // namespace

Table OperationTable(const std::vector<Operation>& operations) {
  Table table({"OPERATION", "METHOD", "TARGET", "STATE", "ACCEPTED", "DETAIL"});
  for (const Operation& operation : operations) {
    const v1::OperationMetadata metadata = MetadataOf(operation);
    table.AddRow({operation.name(), OrDash(metadata.method()), OrDash(metadata.target()),
                  FormatState(metadata), FormatStart(metadata), FormatDetail(operation, metadata)});
  }
  return table;
}

std::string OperationLine(const Operation& operation) {
  const v1::OperationMetadata metadata = MetadataOf(operation);
  const std::string detail = FormatDetail(operation, metadata);
  const std::string state = FormatState(metadata);
  return Printable(detail == "-" ? state : absl::StrCat(state, "  ", detail));
}

absl::Status PrintStarted(const OperationHandle& operation, Context& context) {
  Table table({});
  table.AddRow({"started " + operation.name()});
  table.AddRow({"follow it with: secateur operation watch " + operation.name()});
  return Print(operation.latest(), table, context);
}

}  // namespace secateur::cli
