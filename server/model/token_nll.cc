#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "server/base/strings.h"
#include "server/model/cpu_kernels.h"
#include "server/model/torch_guard.h"
#include "server/model/transformer.h"

namespace secateur {
namespace {

// Positions, and rows of the vocabulary, whose logits exist at once: 128 MiB in float32. Many
// positions, since a product arranges its part of the head anew each time.
constexpr int64_t kPositions = 2048;
constexpr int64_t kVocabularyRows = 16384;

// Rows of a token that live at once in a layer: as wide as the stream, and as the FFN.
constexpr int64_t kStreamRows = 8, kWideRows = 4;

struct Predictions {
  std::vector<int64_t> rows;     // of hidden
  std::vector<int64_t> targets;  // the id that follows each
};

Predictions Collect(const PackedBatch& batch, const std::vector<int64_t>& starts) {
  Predictions predictions;
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const int64_t skipped = starts.empty() ? 0 : starts[i] - 1;
    for (int64_t row = batch.offsets[i] + skipped; row + 1 < batch.offsets[i + 1]; ++row) {
      predictions.rows.push_back(row);
      predictions.targets.push_back(batch.ids[static_cast<size_t>(row + 1)]);
    }
  }
  return predictions;
}

// log sum exp over the last dimension, as float64 on the CPU.
at::Tensor LogSumExp(const at::Tensor& logits) {
  if (!logits.is_cpu() || logits.scalar_type() != at::kFloat) {
    return logits.to(at::kFloat).logsumexp(-1).to(at::kCPU, at::kDouble);
  }
  at::Tensor result = at::empty({logits.size(0)}, at::kDouble);
  cpu::LogSumExpRows(logits.const_data_ptr<float>(), logits.size(0), logits.size(1),
                     result.mutable_data_ptr<double>());
  return result;
}

// log sum exp of each row's logits, [rows], float64 on the CPU. `memory` is for a part of them.
at::Tensor LogNormalizer(const at::Tensor& rows, const at::Tensor& head, const at::Tensor& memory) {
  at::Tensor sum;
  for (int64_t first = 0; first < head.size(0); first += kVocabularyRows) {
    const int64_t part = std::min(kVocabularyRows, head.size(0) - first);
    at::Tensor logits = memory.narrow(0, 0, rows.size(0) * part).view({rows.size(0), part});
    at::mm_out(logits, rows, head.narrow(0, first, part).t());
    const at::Tensor of_part = LogSumExp(logits);
    sum = sum.defined() ? at::logaddexp(sum, of_part) : of_part;
  }
  return sum;
}

at::Tensor IndexTensor(const std::vector<int64_t>& values, int64_t begin, int64_t count,
                       const at::Device& device) {
  return at::tensor(at::ArrayRef<int64_t>(values).slice(static_cast<size_t>(begin),
                                                        static_cast<size_t>(count)),
                    at::kLong)
      .to(device);
}

}  // namespace

absl::StatusOr<std::vector<double>> TokenNll(const ModelConfig& config, const OuterWeights& outer,
                                             const at::Tensor& hidden, const PackedBatch& batch,
                                             const std::vector<int64_t>& starts) {
  if (hidden.dim() != 2 || hidden.size(0) != batch.tokens()) {
    return absl::InvalidArgumentError(
        StrCat("hidden states must have a row for each of the ", batch.tokens(), " tokens"));
  }
  if (!starts.empty() && (static_cast<int64_t>(starts.size()) != batch.sequences() ||
                          *std::min_element(starts.begin(), starts.end()) < 1)) {
    return absl::InvalidArgumentError(StrCat("there must be a start of at least 1 for each of the ",
                                             batch.sequences(), " sequences"));
  }
  return GuardTorch([&] {
    const Predictions predictions = Collect(batch, starts);
    const auto total = static_cast<int64_t>(predictions.rows.size());
    std::vector<double> nll;
    nll.reserve(predictions.rows.size());
    const at::Tensor memory =
        at::empty({std::min(kPositions, total) * std::min(kVocabularyRows, config.vocabulary_size)},
                  hidden.options());
    for (int64_t begin = 0; begin < total; begin += kPositions) {
      const int64_t count = std::min(kPositions, total - begin);
      const at::Tensor rows =
          hidden.index_select(0, IndexTensor(predictions.rows, begin, count, hidden.device()));
      const at::Tensor targets = outer.head.index_select(
          0, IndexTensor(predictions.targets, begin, count, hidden.device()));
      const at::Tensor chosen =
          (rows.to(at::kFloat) * targets.to(at::kFloat)).sum(1).to(at::kCPU, at::kDouble);
      const at::Tensor values = LogNormalizer(rows, outer.head, memory) - chosen;
      const double* data = values.const_data_ptr<double>();
      nll.insert(nll.end(), data, data + count);
    }
    return nll;
  });
}

int64_t PassBytes(const ModelConfig& config, int64_t tokens) {
  const int64_t row = kStreamRows * config.hidden_size + kWideRows * config.intermediate_size;
  const int64_t logits =
      std::min(kPositions, tokens) * std::min(kVocabularyRows, config.vocabulary_size);
  return (tokens * row + logits) * static_cast<int64_t>(sizeof(float));
}

}  // namespace secateur
