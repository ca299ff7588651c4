// A store behind a proxy that spoils single requests, for tests that say what becomes of each
// fault: success after retries or an error that says what failed where; never a visible object
// that is not whole, never a call that does not return.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tests/object_storage/buckets.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/status_matchers.h"

namespace secateur {

inline constexpr int64_t kMiB = int64_t{1} << 20;

std::string RandomBytes(int64_t size);

class FaultTest : public testing::Test {
 protected:
  explicit FaultTest(ObjectServer& server)
      : server_(server), proxy_(server.port()), store_(Open(absl::Seconds(60))) {}

  std::unique_ptr<ArrowStore> Open(absl::Duration stall_limit) {
    return ArrowStore::Open(server_.Uri(folder_, proxy_.port()),
                            {.stall_limit = stall_limit,
                             .on_abandoned = [this](int change) { hanging_ += change; }})
        .value();
  }
  // Spoils the first `times` requests that match.
  template <class Matcher>
  void Spoil(Matcher matches, const Fault& fault, int times) {
    proxy_.Set(
        [=, this, left = std::make_shared<std::atomic<int>>(times)](const ProxiedRequest& request) {
          return Otherwise(request, matches(request) && (*left)-- > 0 ? fault : Fault{});
        });
  }
  template <class Matcher>
  void SpoilAll(Matcher matches, const Fault& fault) {
    Spoil(matches, fault, 1'000'000);
  }
  // What the proxy does with a request that is to meet `fault`.
  virtual Fault Otherwise(const ProxiedRequest&, Fault fault) { return fault; }

  // And waits until no call hangs.
  void ReleaseWhatHangs();

  // By a way around the proxy.
  std::vector<std::string> Keys();
  // After a write that failed or was given up.
  virtual void ExpectNothingLeft() {
    proxy_.Set(nullptr);
    EXPECT_THAT(Keys(), testing::IsEmpty());
  }
  virtual void ExpectStored(const std::string& key, const std::string& bytes) {
    proxy_.Set(nullptr);
    ASSERT_OK_AND_ASSIGN(const std::string read, store_->ReadAll(key, 1 << 30));
    EXPECT_TRUE(read == bytes) << key;
  }
  auto FailsToWrite(absl::StatusCode code, const std::string& key) {
    return StatusIs(code, testing::AllOf(testing::HasSubstr("cannot write " + key),
                                         testing::HasSubstr(store_->uri())));
  }

  ObjectServer& server_;
  const std::string folder_ = NewFolder();
  std::atomic<int> hanging_{0};
  FaultProxy proxy_;
  std::unique_ptr<ArrowStore> store_;
};

}  // namespace secateur
