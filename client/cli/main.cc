#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/cli/run.h"

int main(int argc, char** argv) {
  // gRPC would write its own lines beside our errors; who wants them sets the variable.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const std::vector<std::string> args(argv + 1, argv + argc);
  return secateur::cli::RunCli(args, std::cin, std::cout, std::cerr, isatty(STDERR_FILENO) == 1);
}
