#include "server/pipeline/row_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>

#include "server/base/status_macros.h"
#include "server/corpus/packing.h"
#include "server/model/next_tokens.h"
#include "server/model/row_affinity.h"

namespace secateur {
namespace {

constexpr FramingSettings kFraming = {.max_document_tokens = 128, .block_tokens = 512};
constexpr double kExpectedWeight = 2;
constexpr double kLeastProbability = 1e-15;  // a floor: outliers would stretch the scale

// To a mean of 0 and a standard deviation of 1; 0 where all are the same.
void Standardize(std::vector<float>& values) {
  double sum = 0, squares = 0;
  for (const float value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  for (const float value : values) squares += (value - mean) * (value - mean);
  const double deviation = std::sqrt(squares / static_cast<double>(values.size()));
  for (float& value : values) {
    value = deviation > 0 ? static_cast<float>((value - mean) / deviation) : 0;
  }
}

// The logarithm of the mean probability of each row; empty for no text.
absl::StatusOr<std::vector<float>> LogExpected(const Transformer& model, const Tokenizer& tokenizer,
                                               const TextSample& sample, DeviceLane& lane,
                                               RunContext& context) {
  std::vector<double> sum;
  int64_t done = 0;
  Packer packer(tokenizer, model.config().first_token_id, kFraming,
                [&](const TokenBlock& block) -> absl::Status {
                  PackedBatch batch{block.ids, block.offsets};
                  // A tokenizer may know tokens that the embedding has no row for.
                  std::replace_if(
                      batch.ids.begin(), batch.ids.end(),
                      [&](int32_t id) { return id >= model.config().vocabulary_size; },
                      static_cast<int32_t>(model.config().first_token_id));
                  RETURN_IF_ERROR(lane.Run(context, [&] {
                    return AddNextTokenProbabilities(model, batch, context, sum);
                  }));
                  done += batch.sequences();
                  context.Report({"expect", done, std::ssize(sample.texts()), "documents"});
                  return absl::OkStatus();
                });
  for (const auto& [digest, text] : sample.texts()) RETURN_IF_ERROR(packer.Add({.text = text}));
  RETURN_IF_ERROR(packer.Finish());
  std::vector<float> logs(sum.size());
  std::transform(sum.begin(), sum.end(), logs.begin(), [&packer](double p) {
    const double mean = p / static_cast<double>(packer.tokens());
    return static_cast<float>(std::log(std::max(mean, kLeastProbability)));
  });
  return logs;
}

}  // namespace

void TextSample::Add(const Digest& digest, const std::string& text) {
  if (texts_.size() == kDocuments && texts_.rbegin()->first <= digest) return;
  texts_.emplace(digest, text);
  if (texts_.size() > kDocuments) texts_.erase(std::prev(texts_.end()));
}

absl::StatusOr<std::vector<float>> ScoreRows(const Transformer& model, const Tokenizer& tokenizer,
                                             const std::vector<int32_t>& examples,
                                             const TextSample& sample, DeviceLane& lane,
                                             RunContext& context) {
  std::vector<float> scores;
  RETURN_IF_ERROR(lane.Run(context, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(scores, RowAffinity(model.outer().embedding, examples));
    return absl::OkStatus();
  }));
  ASSIGN_OR_RETURN(std::vector<float> expected,
                   LogExpected(model, tokenizer, sample, lane, context));
  Standardize(scores);
  Standardize(expected);
  for (size_t row = 0; row < expected.size(); ++row) {
    scores[row] += static_cast<float>(kExpectedWeight) * expected[row];
  }
  return scores;
}

}  // namespace secateur
