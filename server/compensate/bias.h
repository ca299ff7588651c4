// Bias compensation (FLAP, An et al. 2312.11983; ALGORITHM 5.1): what removed neurons wrote on
// average becomes a bias of down_proj, b = W_R mean(a_R).
//
// Only for families whose config holds biases of the FFN (ModelConfig::mlp_bias); where the base
// has none, those of gate_proj and up_proj come along as zeros. Never worse than no compensation on
// held-out text, or else it falls back to that.
#pragma once

#include "absl/status/statusor.h"
#include "server/base/run_context.h"
#include "server/compensate/compensate.h"
#include "server/compensate/measured_text.h"
#include "server/model/transformer.h"

namespace secateur {

// Whether an expert of this family can have the bias.
bool CanHoldBias(const ModelConfig& config);

// `measured` without removal orders; as Compensate(), which calls it.
absl::StatusOr<Compensated> CompensateByBias(const Transformer& base, const MeasuredText& measured,
                                             const CompensationOptions& options,
                                             RunContext& context);

}  // namespace secateur
