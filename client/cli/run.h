// The command line program as a function, so that tests can call it.
#pragma once

#include <istream>
#include <ostream>
#include <string>
#include <vector>

namespace secateur::cli {

// Runs one command and returns the process's exit code (exit_code.h). `args` come without the
// program's name; `in` is what the file name "-" reads. The progress bar is drawn on `err` when it
// is a terminal. While a command waits for an operation, SIGINT detaches it. One call at a time.
int RunCli(const std::vector<std::string>& args, std::istream& in, std::ostream& out,
           std::ostream& err, bool err_is_terminal = false);

}  // namespace secateur::cli
