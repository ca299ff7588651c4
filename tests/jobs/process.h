// A server's life on a store, as far as jobs go. Nothing happens by itself but work: tests call
// queue().Poll().
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/jobs/job_queue.h"
#include "server/storage/memory_store.h"
#include "tests/jobs/request.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace secateur {

// The way of one process to a store: it may be full, or not be reachable at all.
class Way final : public BlobStore {
 public:
  explicit Way(BlobStore& store) : store_(store) {}

  std::atomic<bool> full{false}, cut{false};
  std::atomic<int> lists{0};
  // Called before an object is written, on the writing thread. Set while nobody writes.
  std::function<void(const std::string& key)> before_create;

  const std::string& uri() const override { return store_.uri(); }
  absl::StatusOr<std::unique_ptr<BlobWriter>> Create(const std::string& key) override {
    if (cut) return Cut();
    if (full) return absl::ResourceExhaustedError("no space");
    if (before_create) before_create(key);
    return store_.Create(key);
  }
  absl::StatusOr<std::string> Read(const std::string& key, int64_t offset,
                                   int64_t length) override {
    if (cut) return Cut();
    return store_.Read(key, offset, length);
  }
  absl::StatusOr<BlobInfo> Head(const std::string& key) override {
    if (cut) return Cut();
    return store_.Head(key);
  }
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override {
    ++lists;
    if (cut) return Cut();
    return store_.List(prefix, start_after, limit);
  }
  absl::Status Delete(const std::string& key) override {
    if (cut) return Cut();
    return store_.Delete(key);
  }
  std::optional<std::string> LocalPath(const std::string&) override { return std::nullopt; }
  absl::Status Check() override { return cut ? Cut() : absl::OkStatus(); }

 private:
  static absl::Status Cut() { return absl::UnavailableError("the store does not answer"); }

  BlobStore& store_;
};

// Jobs of method "Echo" return their request; those of "Block" run until they are cancelled or
// released, and then return theirs; "Fail" makes none.
class Process {
 public:
  Process(BlobStore& blobs, const Clock& clock, JobQueue::Options options = {.workers = 1},
          std::map<std::string, JobFactory> more = {})
      : way_(blobs),
        queue_(Manual(std::move(options)), WithOurs(std::move(more)), way_, clock, metrics_) {
    EXPECT_OK(queue_.Restore());
  }

  JobQueue& queue() { return queue_; }
  // Takes up what nobody alive owns.
  void Resume() {
    queue_.Resume();
    queue_.Poll();
  }
  Way& way() { return way_; }
  Metrics& metrics() { return metrics_; }
  std::string Submit(const OperationRequest& request) {
    const auto operation = queue_.Submit(request);
    EXPECT_OK(operation);
    return operation.ok() ? operation->id : "";
  }
  Operation Get(const std::string& id) {
    const auto operation = queue_.Get(id);
    EXPECT_OK(operation);
    return operation.ok() ? *operation : Operation{};
  }
  Operation WaitFor(const std::string& id) {
    Get(id);  // makes another process's known
    const auto done = std::make_shared<std::promise<Operation>>();
    EXPECT_OK(queue_.Observe(id, [done](const Operation& now) {
      if (IsDone(now.state)) done->set_value(now);
    }));
    return done->get_future().get();
  }
  // The requests in the order in which they ran.
  std::vector<std::string> ran() {
    MutexLock lock(mutex_);
    return ran_;
  }
  void WaitUntilABlockRuns() {
    while (blocked_ == 0) std::this_thread::yield();
  }
  void WaitUntilNoBlockRuns() {
    while (blocked_ > 0) std::this_thread::yield();
  }
  void ReleaseBlocks() { released_ = true; }

 private:
  static JobQueue::Options Manual(JobQueue::Options options) {
    options.poll_every = absl::ZeroDuration();
    return options;
  }
  std::map<std::string, JobFactory> WithOurs(std::map<std::string, JobFactory> factories) {
    factories["Echo"] = [this](const auto& request) { return Echo(request); };
    factories["Block"] = [this](const auto& request) { return Block(request); };
    factories["Fail"] = [](const auto& request) { return absl::DataLossError(request.request); };
    return factories;
  }
  void Ran(const std::string& request) {
    MutexLock lock(mutex_);
    ran_.push_back(request);
  }
  absl::StatusOr<Job> Echo(const OperationRequest& request) {
    return Job([this, bytes = request.request](RunContext&) -> absl::StatusOr<TypedBytes> {
      Ran(bytes);
      return TypedBytes{"echo", bytes};
    });
  }
  absl::StatusOr<Job> Block(const OperationRequest& request) {
    return Job([this, bytes = request.request](RunContext& run) -> absl::StatusOr<TypedBytes> {
      Ran(bytes);
      ++blocked_;
      while (!run.cancelled() && !released_) std::this_thread::yield();
      --blocked_;
      if (run.cancelled()) return run.CheckCancelled();
      return TypedBytes{"block", bytes};
    });
  }

  Metrics metrics_{"test"};
  std::atomic<int> blocked_{0};
  std::atomic<bool> released_{false};
  Mutex mutex_;
  std::vector<std::string> ran_ ABSL_GUARDED_BY(mutex_);
  Way way_;
  JobQueue queue_;
};

}  // namespace secateur
