// Waits for what other threads and processes bring about.
#pragma once

#include <chrono>
#include <thread>

namespace secateur {

// Calls `done` until it is true; false after a minute.
template <class Done>
bool Eventually(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (std::chrono::steady_clock::now() < deadline) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace secateur
