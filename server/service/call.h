// What every handler shares: gRPC's threads hand the work to a pool and go on; the work's Status
// becomes the call's, is counted, timed and logged. A handler is four steps: check, delegate,
// convert, count; this file does the last and the first half of the first (unknown fields).
#pragma once

#include <atomic>
#include <functional>
#include <string_view>
#include <utility>

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "server/base/run_context.h"
#include "server/base/thread_pool.h"
#include "server/metrics/metrics.h"
#include "server/service/grpc_status.h"
#include "server/service/validate.h"

namespace secateur {

// What one step of a stream leaves to the next. gRPC orders them, which the thread sanitizer does
// not see: Leave() before the StartRead or StartWrite that has the next one called,
// Receive() first in that.
class HandOver {
 public:
  void Leave() { left_.store(true, std::memory_order_release); }
  void Receive() const { (void)left_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> left_{false};
};

// Thread-safe. Outlives every call.
class CallRunner {
 public:
  // Three pools of `threads` each: of calls, of calls that may take long, and of calls that wait
  // for the device. At most `max_pending` wait for or are on a pool; more are shed with
  // RESOURCE_EXHAUSTED.
  CallRunner(int threads, int max_pending, Metrics& metrics)
      : metrics_(metrics),
        pool_(threads, max_pending),
        long_pool_(threads, max_pending),
        device_pool_(threads, max_pending) {}

  // Runs `work` on the pool, then finishes the call with its status. Request and response live
  // until then. A call whose client goes away or whose deadline passes while it waits for the pool
  // does no work.
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, std::string_view method,
                                  const google::protobuf::Message& request,
                                  std::function<absl::Status()> work);
  // Of work that computes or asks many buckets: it holds up its like, no other calls, and its run
  // is cancelled when the client goes away or the deadline passes.
  grpc::ServerUnaryReactor* LongUnary(grpc::CallbackServerContext* context, std::string_view method,
                                      const google::protobuf::Message& request,
                                      std::function<absl::Status(RunContext& run)> work);

  // The same of work that runs the base, and may wait minutes for operations that have the device.
  grpc::ServerUnaryReactor* DeviceUnary(grpc::CallbackServerContext* context,
                                        std::string_view method,
                                        const google::protobuf::Message& request,
                                        std::function<absl::Status(RunContext& run)> work);

  // Runs one step of a stream on the pool. False when too many wait: nothing will run.
  bool Post(std::function<void()> step) { return pool_.Post(std::move(step)); }

  // Counts and logs a call that has ended.
  void Count(std::string_view method, const absl::Status& status, absl::Time start);

  static absl::Status Overloaded();

 private:
  class Pool {
   public:
    Pool(int threads, int max_pending) : max_pending_(max_pending), pool_(threads) {}
    bool Post(std::function<void()> step);

   private:
    const int max_pending_;
    std::atomic<int> pending_{0};
    ThreadPool pool_;  // last: joins before the rest goes
  };

  grpc::ServerUnaryReactor* RunOn(Pool& pool, std::string_view method,
                                  const google::protobuf::Message& request,
                                  std::function<absl::Status(RunContext& run)> work);

  Metrics& metrics_;
  Pool pool_, long_pool_, device_pool_;
};

}  // namespace secateur
