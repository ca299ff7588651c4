#include "server/model/compute_threads.h"

#include <ATen/Parallel.h>

#include <thread>

namespace secateur {

void SetComputeThreads(int threads) {
  at::set_num_threads(threads > 0 ? threads
                                  : static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace secateur
