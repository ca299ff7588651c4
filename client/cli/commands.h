// The subcommands. Each function adds one group to the program; the commands themselves are in the
// .cc file of the group, one function each. `context` outlives the program.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/context.h"

namespace secateur::cli {

void AddModelCommands(CLI::App& program, Context& context);
void AddCorpusCommands(CLI::App& program, Context& context);
void AddProfileCommands(CLI::App& program, Context& context);
void AddDimensionCommands(CLI::App& program, Context& context);
void AddExpertCommands(CLI::App& program, Context& context);
void AddOperationCommands(CLI::App& program, Context& context);

// One command of the expert group that has a file of its own.
void AddEvaluateCommand(CLI::App& group, Context& context);

// A group of commands, `secateur NAME ...`, of which one must be given.
CLI::App* AddGroup(CLI::App& program, const std::string& name, const std::string& what);

// A command of a group with `examples` for its --help. `run` gets a connected client and `options`,
// whose fields the caller binds to options of the command that is returned.
template <class Options>
CLI::App* AddCommand(CLI::App& group, const std::string& name, const std::string& what,
                     const std::string& examples, Context& context,
                     const std::shared_ptr<Options>& options,
                     absl::Status (*run)(const SecateurClient&, const Options&, Context&)) {
  CLI::App* command = group.add_subcommand(name, what);
  command->footer("Examples:\n" + examples);
  command->callback([&context, options, run] {
    const auto client = ConnectWith(context);
    context.result = client.ok() ? run(*client, *options, context) : client.status();
  });
  return command;
}

// Options of commands that take one name, and of those that take a model or nothing.
struct NameOptions {
  std::string name;
};
struct ModelOptions {
  std::string model;
};

// An option that may be given several times, one value each; `values` keeps their order.
CLI::Option* AddRepeated(CLI::App& command, const std::string& name,
                         std::vector<std::string>& values, const std::string& what);
// Adds --model to a command.
void AddModelOption(CLI::App& command, std::string& model);
// Adds --request-id and --no-wait to a command that starts an operation.
void AddOperationOptions(CLI::App& command, std::string& request_id, bool& no_wait);

}  // namespace secateur::cli
