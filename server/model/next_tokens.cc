#include "server/model/next_tokens.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>

#include <ATen/ATen.h>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/model/torch_guard.h"

namespace secateur {
namespace {

constexpr int64_t kPositions = 64;  // whose logits exist at once

}  // namespace

absl::Status AddNextTokenProbabilities(const Transformer& model, const PackedBatch& batch,
                                       RunContext& context, std::vector<double>& sum) {
  const int64_t vocabulary = model.config().vocabulary_size;
  ASSIGN_OR_RETURN(const at::Tensor hidden, model.Forward(batch, context));
  std::vector<double> added(static_cast<size_t>(vocabulary));
  for (int64_t begin = 0; begin < batch.tokens(); begin += kPositions) {
    RETURN_IF_ERROR(context.CheckCancelled());
    const int64_t count = std::min(kPositions, batch.tokens() - begin);
    RETURN_IF_ERROR(GuardTorch([&]() -> absl::Status {
      ASSIGN_OR_RETURN(const at::Tensor logits, model.Logits(hidden.narrow(0, begin, count)));
      const at::Tensor part = logits.softmax(1).sum(0).to(at::kCPU, at::kDouble).contiguous();
      const double* data = part.const_data_ptr<double>();
      std::transform(added.begin(), added.end(), data, added.begin(), std::plus<>());
      return absl::OkStatus();
    }));
  }
  const double total = std::accumulate(added.begin(), added.end(), 0.0);
  if (!std::isfinite(total)) {
    return absl::DataLossError(StrCat("the model expects ", total, " of ", batch.tokens(),
                                      " tokens; its weights or its computation are not finite"));
  }
  sum.resize(added.size());
  std::transform(sum.begin(), sum.end(), added.begin(), sum.begin(), std::plus<>());
  return absl::OkStatus();
}

}  // namespace secateur
