#include "tests/integration/server_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

namespace secateur {

ServerProcess::ServerProcess(const TempDir& dir, std::vector<std::string> flags,
                             const std::string& name)
    : log_(dir.Join("log-" + name)) {
  const std::string model = dir.Join("model");
  if (!std::filesystem::exists(model)) {
    std::filesystem::create_directory(model);
    EXPECT_OK(WriteTinyModel(FindTinyModel("llama_gqa"), model));
  }
  std::vector<std::string> words = {SECATEURD};
  const std::pair<std::string, std::string> defaults[] = {
      {"--model", "tiny=" + model}, {"--store", "file:" + dir.Join("store")},
      {"--listen", "127.0.0.1:0"},  {"--metrics", "127.0.0.1:0"},
      {"--threads", "1"},           {"--workers", "1"},
      {"--drain-seconds", "0"}};
  for (const auto& [flag, value] : defaults) {
    if (std::find(flags.begin(), flags.end(), flag) != flags.end()) continue;
    words.insert(words.end(), {flag, value});
  }
  words.insert(words.end(), flags.begin(), flags.end());
  Spawn(std::move(words));
  EXPECT_TRUE(Eventually([this] { return Port() != 0; })) << Log();
  Connect(Port(), grpc::InsecureChannelCredentials());
}

ServerProcess::~ServerProcess() {
  if (pid_ != 0) Kill(SIGKILL);
}

void ServerProcess::Signal(int signal) const { kill(pid_, signal); }

int ServerProcess::Kill(int signal) {
  kill(pid_, signal);
  int status = 0;
  waitpid(std::exchange(pid_, 0), &status, 0);
  return status;
}

lro::Operation ServerProcess::Wait(const std::string& name) {
  lro::Operation operation;
  // Minutes, where the machine has much else to do.
  for (int i = 0; i < 4 && !operation.done(); ++i) {
    Eventually([&] { return (operation = GetOperation(name)).done(); });
  }
  EXPECT_TRUE(operation.done()) << Log();
  return operation;
}

std::string ServerProcess::StartProfile(const std::string& request_id) {
  lro::Operation operation;
  EXPECT_RPC_OK(Call(&Stub::CreateProfile, secateur::ProfileAll(request_id), &operation));
  return operation.name();
}

void ServerProcess::Spawn(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log_.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0644);
  EXPECT_EQ(posix_spawn(&pid_, SECATEURD, &actions, nullptr, arguments.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
}

std::string ServerProcess::Log() const {
  std::stringstream text;
  text << std::ifstream(log_).rdbuf();
  return text.str();
}

int64_t ServerProcess::ResidentBytes() const {
  std::ifstream status("/proc/" + std::to_string(pid_) + "/statm");
  int64_t all = 0, resident = 0;
  status >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

int ServerProcess::Port() const {
  const std::string log = Log();
  const size_t serving = log.find("\"message\":\"serving\"");
  if (serving == std::string::npos) return 0;
  const size_t port = log.find("\"port\":", serving);
  return port == std::string::npos ? 0 : std::atoi(log.c_str() + port + 7);
}

}  // namespace secateur
