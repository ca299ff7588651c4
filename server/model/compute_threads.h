// How many threads libtorch computes with.
#pragma once

namespace secateur {

// 0: one for each processor. Call once, before the first tensor.
void SetComputeThreads(int threads);

}  // namespace secateur
