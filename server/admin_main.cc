// secateur-admin: what is done to a store without a server. `secateur admin` starts it.
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <string>

#include "server/admin/collect_garbage.h"
#include "server/admin/report.h"
#include "server/admin/verify_store.h"
#include "server/base/status_macros.h"
#include "server/object_storage/arrow_store.h"
#include "server/object_storage/open_store.h"
#include "server/storage/file_uri.h"

namespace secateur {
namespace {

constexpr int kDamaged = 1, kUsage = 2, kFailed = 5;
constexpr char kFooter[] =
    "Exit codes: 0 done, and clean; 1 damage was found; 2 usage; 5 the store cannot be used";

struct AdminOptions {
  std::string store, grace = "24h";
  bool json = false;
  GarbageOptions garbage;
  int exit_code = 0;
};

// A folder that is not there is a mistake here, and not made.
absl::StatusOr<std::unique_ptr<BlobStore>> OpenExisting(const std::string& uri) {
  if (UriScheme(uri) == "file") {
    ASSIGN_OR_RETURN(const std::string folder, FileUriToPath(uri));
    std::error_code error;
    if (!std::filesystem::is_directory(folder, error)) {
      return absl::InvalidArgumentError(StrCat("there is no folder ", folder));
    }
  }
  return OpenStore(uri);
}

absl::Status Verify(AdminOptions& options) {
  ASSIGN_OR_RETURN(const auto store, OpenExisting(options.store));
  ASSIGN_OR_RETURN(const VerifyReport report, VerifyStore(*store));
  Print(report, options.json, std::cout);
  options.exit_code = report.clean() ? 0 : kDamaged;
  return absl::OkStatus();
}

absl::Status Collect(AdminOptions& options) {
  if (!absl::ParseDuration(options.grace, &options.garbage.grace)) {
    return absl::InvalidArgumentError(StrCat("--grace ", options.grace, " is no time like 24h"));
  }
  ASSIGN_OR_RETURN(const auto store, OpenExisting(options.store));
  ASSIGN_OR_RETURN(const GarbageReport report,
                   CollectGarbage(*store, Clock::System(), options.garbage));
  Print(report, options.json, std::cout);
  return absl::OkStatus();
}

void AddCommand(CLI::App& program, AdminOptions& options, const std::string& name,
                const std::string& what, absl::Status (*run)(AdminOptions&)) {
  CLI::App* command = program.add_subcommand(name, what);
  command->add_option("--store", options.store, "URI of the store, as secateurd has it")
      ->required();
  command->add_flag("--json", options.json, "Print one JSON object");
  if (name == "gc") {
    command->add_flag("--dry-run", options.garbage.dry_run, "Say what would go; change nothing");
    command->add_option("--grace", options.grace, "What is younger stays (default 24h)");
  }
  command->footer(kFooter);
  command->callback([&options, run] {
    const absl::Status status = run(options);
    if (status.ok()) return;
    std::cerr << "secateur-admin: " << status.message() << "\n";
    options.exit_code = absl::IsInvalidArgument(status) ? kUsage : kFailed;
  });
}

int Main(int argc, char** argv) {
  AdminOptions options;
  CLI::App program("Checks and cleans a store, without a server.", "secateur admin");
  program.require_subcommand(1);
  program.footer(kFooter);
  program.set_version_flag("--version", "secateur-admin " SECATEUR_VERSION);
  AddCommand(program, options, "verify", "Check every object against its SHA-256; writes nothing",
             Verify);
  AddCommand(program, options, "gc",
             "Remove what nothing refers to, and experts that have ended; servers may run",
             Collect);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? 0 : kUsage;
  }
  std::cout.flush();
  return std::cout ? options.exit_code : kFailed;
}

}  // namespace
}  // namespace secateur

int main(int argc, char** argv) {
  const int exit_code = secateur::Main(argc, argv);
  // A thread that hangs in a client library would keep the process from ending.
  if (!secateur::FinalizeObjectStorage()) _exit(exit_code);
  return exit_code;
}
