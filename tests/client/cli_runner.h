// Runs the command line program in process against a fake server.
#pragma once

#include <google/protobuf/util/json_util.h>

#include <sstream>
#include <string>
#include <vector>

#include "client/cli/exit_code.h"
#include "client/cli/run.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/temp_dir.h"

namespace secateur::cli {

class CliTest : public testing::Test {
 protected:
  // Runs `secateur ARGS --server THE_FAKE`; out_ and err_ hold what it printed.
  int Run(std::vector<std::string> args, const std::string& input = "", bool terminal = false) {
    args.push_back("--server");
    args.push_back(server_.address());
    return RunAlone(args, input, terminal);
  }
  int RunAlone(const std::vector<std::string>& args, const std::string& input = "",
               bool terminal = false) {
    std::istringstream in(input);
    std::ostringstream out, err;
    const int code = RunCli(args, in, out, err, terminal);
    out_ = out.str();
    err_ = err.str();
    return code;
  }
  // What was printed, as a message.
  template <class Message>
  Message Parsed() const {
    Message message;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(out_, &message).ok()) << out_;
    return message;
  }

  FakeServer server_;
  TempDir dir_;
  std::string out_, err_;
};

inline v1::Model ModelNamed(const std::string& name) {
  v1::Model model;
  model.set_name(name);
  return model;
}

}  // namespace secateur::cli
