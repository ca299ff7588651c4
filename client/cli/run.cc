#include "client/cli/run.h"

#include <CLI/CLI.hpp>

#include "client/cli/admin_command.h"
#include "client/cli/commands.h"
#include "client/cli/context.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"

namespace secateur::cli {
namespace {

constexpr char kAbout[] =
    "Makes small expert models out of a large one, with a secateurd server.\n\n"
    "  secateur corpus upload legal-ko.jsonl --label language=ko --label domain=legal\n"
    "  secateur expert plan --language ko --domain legal --remove 20% --remove 35%\n"
    "  secateur expert create --language ko --domain legal --remove 35%\n"
    "  secateur expert download e0123456789... legal-ko-expert";

void AddGlobalOptions(CLI::App& program, Context& context) {
  program
      .add_option("--server", context.client.address,
                  "Address of the server, HOST:PORT (default localhost:8470)")
      ->envname("SECATEUR_SERVER");
  program.add_option(
      "--ca", context.client.ca_file,
      "PEM file of the authority that signed the server's certificate; turns TLS on");
  program.add_option("--cert", context.client.cert_file, "PEM file of the client's certificate");
  program.add_option("--key", context.client.key_file, "PEM file of the client's key");
  program.add_option("--token-file", context.token_file, "File that holds a bearer token");
  program
      .add_option_function<std::string>(
          "--output", [&context](const std::string& form) { context.json = form == "json"; },
          "table (default), or json: the answer as the API's own JSON")
      ->check(CLI::IsMember({"table", "json"}));
  program.set_version_flag("--version", "secateur " SECATEUR_VERSION);
}

// CLI11 says of `secateur expert prune` only that a command is missing.
int ShowUsageError(const CLI::App& program, const CLI::ParseError& error, std::ostream& out,
                   std::ostream& err) {
  const std::vector<std::string> unknown = program.remaining(/*recurse=*/true);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !unknown.empty()) {
    err << "secateur: unknown command or option: " << Printable(unknown.front()) << "\n";
  }
  return program.exit(error, out, err) == 0 ? kOk : kUsage;
}

int Finish(Context& context) {
  context.out.flush();
  if (context.result.ok() && !context.out) {
    context.result = absl::DataLossError("the output could not be written");
  }
  if (!context.result.ok()) PrintError(context.result, context.client.address, context.err);
  return ExitCodeOf(context.result);
}

}  // namespace

int RunCli(const std::vector<std::string>& args, std::istream& in, std::ostream& out,
           std::ostream& err, bool err_is_terminal) {
  if (!args.empty() && args.front() == "admin") {
    return BecomeAdmin(FolderOfThisProgram(), {args.begin() + 1, args.end()}, err);
  }
  Context context{in, out, err, err_is_terminal, {}, {}, false, absl::OkStatus()};
  CLI::App program(kAbout, "secateur");
  program.footer(kExitCodeHelp);
  program.require_subcommand(1);
  program.fallthrough();
  AddGlobalOptions(program, context);
  AddModelCommands(program, context);
  AddCorpusCommands(program, context);
  AddProfileCommands(program, context);
  AddDimensionCommands(program, context);
  AddExpertCommands(program, context);
  AddOperationCommands(program, context);
  AddAdminCommand(program);
  try {
    // CLI11 takes them from the back.
    program.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::ParseError& error) {
    return ShowUsageError(program, error, out, err);
  }
  return Finish(context);
}

}  // namespace secateur::cli
