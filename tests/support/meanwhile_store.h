// A store in which something else happens between its answer to Head or List and what the caller
// makes of it: as much of that as the caller's locks allow.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/other_store.h"

namespace secateur {

class MeanwhileStore final : public OtherStore {
 public:
  using OtherStore::OtherStore;
  ~MeanwhileStore() override { Join(); }

  // `what` happens at the next Head or List, on a thread of its own.
  void Next(std::function<void()> what) { what_ = std::move(what); }
  // Waits until it has happened.
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

  absl::StatusOr<BlobInfo> Head(const std::string& key) override {
    auto info = OtherStore::Head(key);
    Happen();
    return info;
  }
  absl::StatusOr<std::vector<BlobInfo>> List(const std::string& prefix,
                                             const std::string& start_after,
                                             int64_t limit) override {
    auto list = OtherStore::List(prefix, start_after, limit);
    Happen();
    return list;
  }

 private:
  void Happen() {
    if (!what_) return;
    thread_ = std::thread([this, what = std::exchange(what_, nullptr)] {
      what();
      happened_ = true;
    });
    for (int i = 0; i < 100 && !happened_; ++i) {  // it may wait for the caller
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::function<void()> what_;
  std::atomic<bool> happened_{false};
  std::thread thread_;
};

}  // namespace secateur
