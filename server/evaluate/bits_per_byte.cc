#include "server/evaluate/bits_per_byte.h"

#include <cmath>
#include <numbers>
#include <vector>

#include "server/base/status_macros.h"

namespace secateur {

double BitsPerByte::value() const {
  return bytes == 0 ? 0 : nats / std::numbers::ln2 / static_cast<double>(bytes);
}

absl::Status AddNll(const std::vector<double>& nll, const TokenBlock& block, BitsPerByte& sum) {
  double nats = 0;
  for (const double value : nll) nats += value;
  if (!std::isfinite(nats)) {
    return absl::DataLossError(StrCat("the model predicts ", nll.size(),
                                      " tokens of the text with ", nats,
                                      " nats; its weights or its computation are not finite"));
  }
  sum.nats += nats;
  sum.tokens += static_cast<int64_t>(nll.size());
  for (const int64_t bytes : block.text_bytes) sum.bytes += bytes;
  sum.documents += static_cast<int64_t>(block.text_bytes.size());
  return absl::OkStatus();
}

absl::Status AddBitsPerByte(const Transformer& model, const TokenBlock& block, RunContext& context,
                            BitsPerByte& sum) {
  const PackedBatch batch{block.ids, block.offsets};
  ASSIGN_OR_RETURN(const at::Tensor hidden, model.Forward(batch, context));
  ASSIGN_OR_RETURN(const std::vector<double> nll,
                   TokenNll(model.config(), model.outer(), hidden, batch));
  return AddNll(nll, block, sum);
}

}  // namespace secateur
