// What it costs that operations are durable, and how late those end that wait too long.
//
//   secateur_operations_speed durable FOLDER ROUNDS OPERATIONS   empty jobs through the queue on a
//       local store, in turns with the same bytes in as many plain files, each written, synced,
//       renamed, and its folder synced; one JSON object
//   secateur_operations_speed lateness FOLDER OPERATIONS         jobs behind one that does not end,
//       with a second in the queue at most; milliseconds past that until their end could be seen
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/jobs/job_queue.h"
#include "server/storage/local_store.h"

namespace secateur {
namespace {

using std::chrono::steady_clock;

double SecondsSince(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

// Submits one and waits until it is done, as a client that watches.
absl::Status RunOne(JobQueue& queue) {
  ASSIGN_OR_RETURN(const Operation accepted, queue.Submit({.method = "Nothing", .target = "none"}));
  Mutex mutex;
  CondVar changed;
  bool done = false;
  ASSIGN_OR_RETURN(const int64_t ticket, queue.Observe(accepted.id, [&](const Operation& now) {
    MutexLock lock(mutex);
    done = IsDone(now.state);
    if (done) changed.NotifyAll();
  }));
  {
    MutexLock lock(mutex);
    while (!done) changed.Wait(mutex);
  }
  queue.Unobserve(ticket);
  return absl::OkStatus();
}

bool WritePlain(const std::string& folder, const std::string& name, const std::string& bytes) {
  const std::string temporary = folder + "/.tmp-" + name;
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644);
  const bool written = file >= 0 && write(file, bytes.data(), bytes.size()) == std::ssize(bytes) &&
                       fsync(file) == 0 && close(file) == 0 &&
                       rename(temporary.c_str(), (folder + "/" + name).c_str()) == 0;
  const int directory = open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  return written && directory >= 0 && fsync(directory) == 0 && close(directory) == 0;
}

// Sizes of the objects that the operations of the store are, in bytes.
absl::StatusOr<std::vector<int64_t>> Sizes(BlobStore& store) {
  ASSIGN_OR_RETURN(const auto objects, store.List("operations/", "", 1 << 20));
  std::vector<int64_t> sizes;
  for (const BlobInfo& object : objects) sizes.push_back(object.size);
  return sizes;
}

absl::StatusOr<nlohmann::json> Measure(const std::string& folder, int rounds, int operations) {
  Metrics metrics("benchmark");
  std::vector<double> ours, theirs;
  size_t objects = 0;
  for (int round = 0; round <= rounds; ++round) {  // the first warms up
    const std::string place = folder + "/" + std::to_string(round);
    ASSIGN_OR_RETURN(const auto store, LocalStore::Open(place + "/store"));
    const auto nothing = [](const OperationRequest& request) -> absl::StatusOr<Job> {
      return Job([bytes = request.request](RunContext&) { return TypedBytes{"nothing", bytes}; });
    };
    JobQueue queue({}, {{"Nothing", nothing}}, *store, Clock::System(), metrics);
    RETURN_IF_ERROR(queue.Restore());
    steady_clock::time_point start = steady_clock::now();
    for (int i = 0; i < operations; ++i) RETURN_IF_ERROR(RunOne(queue));
    const double seconds = SecondsSince(start);
    ASSIGN_OR_RETURN(const std::vector<int64_t> sizes, Sizes(*store));
    objects = sizes.size();
    std::filesystem::create_directories(place + "/plain");
    start = steady_clock::now();
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (!WritePlain(place + "/plain", std::to_string(i),
                      std::string(static_cast<size_t>(sizes[i]), 'x'))) {
        return absl::InternalError("a plain file could not be written");
      }
    }
    if (round == 0) continue;
    ours.push_back(seconds / operations * 1e3);
    theirs.push_back(SecondsSince(start) / operations * 1e3);
  }
  return nlohmann::json{{"operation_ms", ours},
                        {"plain_files_ms", theirs},
                        {"objects_per_operation", static_cast<double>(objects) / operations}};
}

// Ends when it is cancelled.
absl::StatusOr<TypedBytes> Hold(RunContext& run) {
  while (!run.cancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return run.CheckCancelled();
}

absl::StatusOr<nlohmann::json> Lateness(const std::string& folder, int operations) {
  constexpr absl::Duration kLimit = absl::Seconds(1);
  Metrics metrics("benchmark");
  ASSIGN_OR_RETURN(const auto store, LocalStore::Open(folder + "/store"));
  const auto hold = [](const OperationRequest&) -> absl::StatusOr<Job> { return Job(&Hold); };
  JobQueue queue({.workers = 1, .max_queued = operations + 1, .max_queue_time = kLimit},
                 {{"Hold", hold}}, *store, Clock::System(), metrics);
  RETURN_IF_ERROR(queue.Restore());
  ASSIGN_OR_RETURN(const Operation first, queue.Submit({.method = "Hold", .target = "none"}));
  Mutex mutex;
  CondVar changed;
  std::vector<double> late;
  std::vector<int64_t> tickets;
  for (int i = 0; i < operations; ++i) {
    // Spread over the time between two looks of the timer.
    std::this_thread::sleep_for(std::chrono::milliseconds(7));
    ASSIGN_OR_RETURN(const Operation accepted, queue.Submit({.method = "Hold", .target = "none"}));
    const auto watch = [&](const Operation& now) {
      MutexLock lock(mutex);
      if (!IsDone(now.state)) return;
      late.push_back(absl::ToDoubleMilliseconds(absl::Now() - now.create_time - kLimit));
      changed.NotifyAll();
    };
    ASSIGN_OR_RETURN(tickets.emplace_back(), queue.Observe(accepted.id, watch));
  }
  {
    MutexLock lock(mutex);
    while (std::ssize(late) < operations) changed.Wait(mutex);
  }
  for (const int64_t ticket : tickets) queue.Unobserve(ticket);
  RETURN_IF_ERROR(queue.Cancel(first.id));
  std::sort(late.begin(), late.end());
  return nlohmann::json{{"late_p50_ms", late[late.size() / 2]},
                        {"late_p99_ms", late[late.size() * 99 / 100]},
                        {"late_max_ms", late.back()}};
}

absl::StatusOr<nlohmann::json> Run(const std::vector<std::string>& words) {
  if (words.size() == 4 && words[0] == "durable") {
    return Measure(words[1], std::stoi(words[2]), std::stoi(words[3]));
  }
  if (words.size() == 3 && words[0] == "lateness") return Lateness(words[1], std::stoi(words[2]));
  return absl::InvalidArgumentError(
      "secateur_operations_speed durable FOLDER ROUNDS OPERATIONS | lateness FOLDER OPERATIONS");
}

}  // namespace
}  // namespace secateur

int main(int argc, char** argv) {
  const auto row = secateur::Run({argv + 1, argv + argc});
  if (!row.ok()) {
    std::cerr << row.status().message() << "\n";
    return 1;
  }
  std::cout << row->dump() << std::endl;
  return 0;
}
