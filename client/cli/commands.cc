#include "client/cli/commands.h"

namespace secateur::cli {

CLI::App* AddGroup(CLI::App& program, const std::string& name, const std::string& what) {
  CLI::App* group = program.add_subcommand(name, what);
  group->require_subcommand(1);
  group->footer("secateur " + name +
                " COMMAND --help shows the options and examples of a command.");
  return group;
}

CLI::Option* AddRepeated(CLI::App& command, const std::string& name,
                         std::vector<std::string>& values, const std::string& what) {
  // Otherwise the option would take the positional arguments after it as well.
  return command.add_option(name, values, what + "; may be repeated")->allow_extra_args(false);
}

void AddModelOption(CLI::App& command, std::string& model) {
  command.add_option("--model", model, "Base model; may be left out when the server has one");
}

void AddOperationOptions(CLI::App& command, std::string& request_id, bool& no_wait) {
  command.add_option("--request-id", request_id,
                     "The same id and request again is the same operation");
  command.add_flag("--no-wait", no_wait, "Start the operation and return");
}

}  // namespace secateur::cli
