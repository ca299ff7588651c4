// secateur operation ...
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/operation_table.h"
#include "client/cli/progress.h"
#include "client/cli/wait.h"
#include "google/protobuf/empty.pb.h"

namespace secateur::cli {
namespace {

using google::longrunning::Operation;

struct NoOptions {};

absl::Status OperationList(const SecateurClient& client, const NoOptions&, Context& context) {
  const auto operations = client.ListOperations();
  if (!operations.ok()) return operations.status();
  google::longrunning::ListOperationsResponse all;
  all.mutable_operations()->Add(operations->begin(), operations->end());
  return Print(all, OperationTable(*operations), context);
}

absl::Status OperationGet(const SecateurClient& client, const NameOptions& options,
                          Context& context) {
  const auto operation = client.AttachOperation(FullName("operations", options.name)).Get();
  if (!operation.ok()) return operation.status();
  return Print(*operation, OperationTable({*operation}), context);
}

absl::Status OperationWait(const SecateurClient& client, const NameOptions& options,
                           Context& context) {
  const auto done =
      WaitWithBar(client.AttachOperation(FullName("operations", options.name)), context);
  if (!done.ok()) return done.status();
  if (absl::Status status = Print(*done, OperationTable({*done}), context); !status.ok()) {
    return status;
  }
  return OutcomeOf(*done);
}

absl::Status OperationWatch(const SecateurClient& client, const NameOptions& options,
                            Context& context) {
  std::string last;
  WaitOptions wait;
  wait.progress = [&](const Operation& operation) {
    const std::string line = OperationLine(operation);
    if (line == last) return;  // a heartbeat
    last = line;
    if (!context.json) {
      context.out << line << std::endl;
    } else if (absl::Status status = PrintJson(operation, context); !status.ok()) {
      context.err << std::string(status.message()) << "\n";
    }
    context.out.flush();
  };
  const auto done =
      WaitUntilInterrupted(client.AttachOperation(FullName("operations", options.name)), wait);
  if (!done.ok()) return done.status();
  return OutcomeOf(*done);
}

absl::Status OperationCancel(const SecateurClient& client, const NameOptions& options,
                             Context& context) {
  const std::string name = FullName("operations", options.name);
  if (absl::Status status = client.AttachOperation(name).Cancel(); !status.ok()) return status;
  Table table({});
  table.AddRow({"asked to stop: " + name});
  return Print(google::protobuf::Empty(), table, context);
}

void AddNamed(CLI::App& group, Context& context, const std::string& name, const std::string& what,
              absl::Status (*run)(const SecateurClient&, const NameOptions&, Context&)) {
  const auto options = std::make_shared<NameOptions>();
  CLI::App* command =
      AddCommand(group, name, what, "  secateur operation " + name + " operations/o123", context,
                 options, run);
  command->add_option("OPERATION", options->name, "Name of the operation")->required();
}

}  // namespace

void AddOperationCommands(CLI::App& program, Context& context) {
  CLI::App* group = AddGroup(
      program, "operation",
      "Long work: text being read, profiles and experts being made, experts being measured");
  AddCommand(*group, "list", "The operations the server knows", "  secateur operation list",
             context, std::make_shared<NoOptions>(), &OperationList);
  AddNamed(*group, context, "get", "An operation as it is now", &OperationGet);
  AddNamed(*group, context, "wait", "Wait until it is done and show it", &OperationWait);
  AddNamed(*group, context, "watch", "Print each change until it is done", &OperationWatch);
  AddNamed(*group, context, "cancel", "Ask the server to stop the work", &OperationCancel);
}

}  // namespace secateur::cli
