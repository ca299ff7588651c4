// Runs one function per layer on several threads. Layers share nothing, so the outcome does not
// depend on the number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "server/base/thread_pool.h"

namespace secateur {

// Calls `make()` once a thread, for its scratch memory, and what it returns once for each layer in
// [0, layers), in any order. The caller's thread takes part: `threads` <= 1 starts none. Returns
// when all are done.
template <class Make>
void ForEachLayer(size_t layers, int threads, Make make) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    auto layer_function = make();
    for (size_t layer = next++; layer < layers; layer = next++) layer_function(layer);
  };
  const int helpers = std::clamp(threads, 1, static_cast<int>(std::max<size_t>(layers, 1))) - 1;
  ThreadPool pool(helpers);
  for (int i = 0; i < helpers; ++i) pool.Add(work);
  work();
}

}  // namespace secateur
