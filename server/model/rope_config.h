// The rotary settings of config.json, in both spellings: `rope_theta` and `rope_scaling` (up to
// Transformers 4), `rope_parameters` (5, for Gemma 3 one object for each kind of layer).
#pragma once

#include "absl/status/status.h"
#include "server/model/config.h"
#include "server/model/families.h"
#include "server/model/json_fields.h"

namespace secateur {

// Fills config.rope, and config.local_rope for a family with sliding windows. config.max_positions
// must be set. INVALID_ARGUMENT for missing or impossible values, UNIMPLEMENTED for a rope type or
// a partial rotation we lack.
absl::Status ParseRope(const Fields& fields, const Family& family, ModelConfig& config);

}  // namespace secateur
