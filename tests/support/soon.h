// Waits for what other threads bring about, so that a test that waits in vain fails and goes on.
#pragma once

#include <chrono>
#include <thread>

namespace secateur {

// Whether `condition` is true within ten seconds or so.
template <class Condition>
bool Soon(Condition condition) {
  for (int i = 0; i < 10000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

}  // namespace secateur
