// `secateur admin ...`: another program, secateur-admin, does it, because it works on a store and
// not with a server; as git finds its commands, it lies beside this one.
#pragma once

#include <CLI/CLI.hpp>

#include <ostream>
#include <string>
#include <vector>

namespace secateur::cli {

// Lists `admin` in the program's help; RunCli hands its arguments over before they are parsed.
void AddAdminCommand(CLI::App& program);

// The folder that this program's file lies in; empty when the system does not say.
std::string FolderOfThisProgram();

// Becomes FOLDER/secateur-admin with `args`; returns an exit code only when it cannot: kNotFound
// when there is no such program.
int BecomeAdmin(const std::string& folder, const std::vector<std::string>& args, std::ostream& err);

}  // namespace secateur::cli
