// The real server, killed at every point of server/base/crash_point.h while a client works with it,
// and started again on the same store. What a client was told must be true afterwards.
//
// SECATEUR_CRASH_SEEDS rounds at each point, 2 by default (scripts/test --long: 20, then 100). A
// seed says how often the point is passed before the process dies there; once a round shows that it
// is passed less often, it starts over from 1. Bugs that are planted on purpose must be seen by the
// same checks.
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "server/artifact/expiry.h"
#include "server/base/crash_point.h"
#include "server/base/digest.h"
#include "server/base/status_macros.h"
#include "server/jobs/operation_fold.h"
#include "server/jobs/operation_store.h"
#include "server/storage/local_store.h"
#include "tests/integration/server_process.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

namespace fs = std::filesystem;
using Stub = v1::Secateur::Stub;
using ::testing::IsEmpty;

int Seeds() {
  const char* seeds = std::getenv("SECATEUR_CRASH_SEEDS");
  return seeds != nullptr ? std::atoi(seeds) : 2;
}

v1::CreateExpertRequest ExpertRequest() {
  v1::CreateExpertRequest request = EnglishRequest();
  request.set_request_id("the-expert");
  request.mutable_ttl()->set_seconds(3600);
  return request;
}

// What the client was told before the server died.
struct Told {
  bool corpus = false;
  std::vector<std::string> operations;  // accepted
  std::vector<std::string> done;        // of these, with a result
  std::vector<std::string> errors;
};
constexpr size_t kOperations = 4;  // that a client begins

// A client that takes what it gets: any call may fail, since the server may be gone.
class Client {
 public:
  explicit Client(ServerProcess& server) : server_(server) {}

  Told Work() {
    Told told;
    v1::UploadCorpusResponse uploaded;
    const auto messages = UploadMessages({{"language", "en"}}, JsonLines(5, "laws"));
    told.corpus = server_.Upload(messages, &uploaded).ok();
    if (told.corpus) {
      Run(&Stub::CreateProfile, ProfileAll("the-profile"), told);
      // The second of two under no id of their own waits in the queue behind the first.
      const auto first = Begin(&Stub::CreateProfile, ProfileAll(), told);
      const auto second = Begin(&Stub::CreateProfile, ProfileAll(), told);
      for (const auto& operation : {first, second}) Follow(operation, told);
    }
    Run(&Stub::CreateExpert, ExpertRequest(), told);
    return told;
  }

 private:
  template <class Request>
  lro::Operation Begin(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                    lro::Operation*),
                       const Request& request, Told& told) {
    lro::Operation operation;
    const grpc::Status called = server_.Call(method, request, &operation);
    if (called.ok()) {
      told.operations.push_back(operation.name());
    } else {
      told.errors.push_back(called.error_message());
    }
    return operation;
  }
  template <class Request>
  void Run(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, lro::Operation*),
           const Request& request, Told& told) {
    Follow(Begin(method, request, told), told);
  }
  void Follow(lro::Operation operation, Told& told) {
    if (operation.name().empty()) return;
    while (!operation.done()) {
      grpc::ClientContext context;
      lro::GetOperationRequest get;
      get.set_name(operation.name());
      if (!server_.operations().GetOperation(&context, get, &operation).ok()) return;
    }
    if (operation.has_response()) return told.done.push_back(operation.name());
    told.errors.push_back(operation.error().message());
  }

  ServerProcess& server_;
};

std::string FileText(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

int Count(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// A manifest names files that are there, as it says, and the expert's end stands beside it.
void CheckManifest(const fs::path& manifest, std::vector<std::string>& violations) {
  const auto is_end = [](const auto& entry) {
    return ExpiryOfName(entry.path().filename().string()).has_value();
  };
  if (std::ranges::none_of(fs::directory_iterator(manifest.parent_path()), is_end)) {
    violations.push_back("an expert that is to end would stay: " + manifest.string());
  }
  const auto json = nlohmann::json::parse(FileText(manifest), nullptr, false);
  if (!json.is_object() || !json.contains("files") || json["files"].empty()) {
    violations.push_back("a manifest names no files: " + manifest.string());
    return;
  }
  for (const auto& file : json["files"]) {
    const fs::path path = manifest.parent_path() / file.value("name", "");
    if (!fs::exists(path) || Sha256Of(FileText(path)).Hex() != file.value("sha256", "")) {
      violations.push_back("a manifest names a file that is not so: " + path.string());
    }
  }
}

void CheckStore(const fs::path& store, std::vector<std::string>& violations) {
  if (!fs::exists(store / "experts")) return;
  for (const auto& entry : fs::recursive_directory_iterator(store / "experts")) {
    if (entry.path().filename() == "secateur.json") CheckManifest(entry.path(), violations);
  }
}

// What was told must not have been in the memory of the dead process alone.
void CheckEvents(const fs::path& folder, const Told& told, std::vector<std::string>& violations) {
  const auto store = LocalStore::Open(folder).value();
  OperationStore operations(*store);
  const auto find = [&](const std::string& name) -> absl::StatusOr<Operation> {
    const std::string id = name.substr(name.find('/') + 1);
    ASSIGN_OR_RETURN(const OperationStore::Keys keys, operations.KeysOf(id));
    ASSIGN_OR_RETURN(std::vector<StoredEvent> events, operations.Read(id, keys));
    return Fold(id, std::move(events));
  };
  for (const std::string& name : told.operations) {
    if (!find(name).ok()) violations.push_back(name + " was accepted and is not stored");
  }
  for (const std::string& name : told.done) {
    const auto operation = find(name);
    if (operation.ok() && operation->state == OperationState::kSucceeded) continue;
    violations.push_back(name + " was done and its end is not stored");
  }
}

lro::Operation WaitFor(ServerProcess& server, const std::string& name,
                       std::vector<std::string>& violations) {
  lro::Operation operation;
  grpc::Status status;
  Eventually([&] {
    grpc::ClientContext context;
    lro::GetOperationRequest get;
    get.set_name(name);
    status = server.operations().GetOperation(&context, get, &operation);
    return !status.ok() || operation.done();
  });
  if (!status.ok())
    violations.push_back(name + " is not known: " + status.error_message());
  else if (!operation.done())
    violations.push_back(name + " does not end");
  else if (!operation.has_response())
    violations.push_back(name + " failed: " + operation.error().message());
  return operation;
}

// The same requests under the same ids, to a server that is not killed.
void CheckRepeats(ServerProcess& server, std::vector<std::string>& violations) {
  const Told told = Client(server).Work();
  if (!told.corpus) violations.push_back("the corpus cannot be uploaded again");
  for (const std::string& error : told.errors) violations.push_back("the same request: " + error);
  v1::ListExpertsRequest list;
  list.set_parent("models/tiny");
  v1::ListExpertsResponse experts;
  if (!server.Call(&Stub::ListExperts, list, &experts).ok() || experts.experts_size() != 1) {
    violations.push_back("there is not one expert but " + std::to_string(experts.experts_size()));
  }
}

// One life, one death, and what is wrong afterwards.
std::vector<std::string> Violations(const std::string& point, int count, const std::string& bug,
                                    bool* died = nullptr) {
  const TempDir dir;
  std::vector<std::string> violations;
  setenv("SECATEUR_CRASH_FILE", dir.Join("crash").c_str(), 1);
  setenv("SECATEUR_SEEDED_BUG", bug.c_str(), 1);
  Told told;
  std::string first_log;
  {
    ServerProcess server(dir, {}, "first");
    unsetenv("SECATEUR_CRASH_FILE");
    unsetenv("SECATEUR_SEEDED_BUG");
    dir.Write("crash.new", point + " " + std::to_string(count));
    fs::rename(dir.Join("crash.new"), dir.Join("crash"));  // whole at once
    told = Client(server).Work();
    const int status = server.Kill(SIGKILL);
    if (died != nullptr) *died = WIFSIGNALED(status) && told.done.size() < kOperations;
    first_log = server.Log();
  }
  const fs::path store = dir.Join("store/tenants/default");
  CheckStore(store, violations);
  CheckEvents(store, told, violations);
  ServerProcess server(dir, {}, "second");
  for (const std::string& name : told.operations) WaitFor(server, name, violations);
  CheckRepeats(server, violations);
  CheckStore(store, violations);
  const int stored = Count(first_log + server.Log(), "\"profile stored\"");
  const bool finished = Count(first_log, "\"profile stored\"") > 0;
  if (stored > (finished ? 1 : 2)) violations.push_back("a profile was made again");
  server.HangUp();
  const int status = server.Kill(SIGTERM);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) violations.push_back("it does not end well");
  return violations;
}

class Crash : public testing::TestWithParam<std::string_view> {};

TEST_P(Crash, LosesNothingThatAClientWasTold) {
  int deaths = 0;
  int passes = std::max(1, Seeds());  // as far as is known
  for (int seed = 1; seed <= Seeds(); ++seed) {
    const int count = 1 + (seed - 1) % passes;
    bool died = false;
    EXPECT_THAT(Violations(std::string(GetParam()), count, "", &died), IsEmpty())
        << GetParam() << ", passed " << count << " times";
    deaths += died ? 1 : 0;
    if (!died) passes = std::max(1, count - 1);
  }
  EXPECT_GT(deaths, 0) << "nothing passes this point";
  std::cout << "crash: " << GetParam() << ", " << Seeds() << " rounds, " << deaths << " deaths\n";
}

std::string NameOf(const testing::TestParamInfo<std::string_view>& info) {
  std::string name(info.param);
  for (char& c : name) c = c == '.' ? '_' : c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Points, Crash, testing::ValuesIn(kCrashPoints), NameOf);

struct Bug {
  std::string_view name;
  std::string_view point;  // at which a death shows it
  std::string_view shows;  // what is said of it then
};
void PrintTo(const Bug& bug, std::ostream* out) { *out << bug.name; }

class PlantedBug : public testing::TestWithParam<Bug> {};

TEST_P(PlantedBug, IsSeen) {
  bool seen = false;
  for (int count = 1; count <= 6 && !seen; ++count) {
    const auto violations =
        Violations(std::string(GetParam().point), count, std::string(GetParam().name));
    for (const std::string& violation : violations) {
      std::cout << "seen: " << violation << "\n";
      seen |= violation.find(GetParam().shows) != std::string::npos;
    }
  }
  EXPECT_TRUE(seen);
}

// Syncs that are dropped show in tests/storage/durability_test.cc: the kernel of a process that is
// killed lives on and forgets nothing.
constexpr Bug kBugs[] = {
    {"meta_without_documents", "corpus.before_meta", "there is no object uploads/"},
    {"manifest_first", "expert.before_manifest", "a manifest names no files"},
    {"acknowledge_before_write", "operation.before_event", "was accepted and is not stored"},
    {"show_before_write", "operation.before_event", "its end is not stored"}};
INSTANTIATE_TEST_SUITE_P(Bugs, PlantedBug, testing::ValuesIn(kBugs),
                         [](const auto& bug) { return std::string(bug.param.name); });

}  // namespace
}  // namespace secateur
