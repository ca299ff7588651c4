#include "client/cli/admin_command.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "client/cli/exit_code.h"
#include "client/cli/format.h"

namespace secateur::cli {

void AddAdminCommand(CLI::App& program) {
  program.add_subcommand("admin", "Check and clean a store without a server: verify, gc");
}

std::string FolderOfThisProgram() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

int BecomeAdmin(const std::string& folder, const std::vector<std::string>& args,
                std::ostream& err) {
  const std::string path = folder + "/secateur-admin";
  std::vector<std::string> all = {path};
  all.insert(all.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& arg : all) argv.push_back(arg.data());
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  const int error = errno;
  err << "secateur: cannot start " << Printable(path) << ": " << std::strerror(error) << "\n";
  if (error != ENOENT) return kOther;
  err << "secateur admin works on a store itself: install secateur-admin beside secateur, or use "
         "the server's image, which has it\n";
  return kNotFound;
}

}  // namespace secateur::cli
