// The condition that an expert must meet to be published. Pure functions.
#pragma once

#include <string>
#include <vector>

#include <google/protobuf/repeated_field.h>

#include "absl/status/status.h"
#include "secateur/v1/resources.pb.h"

namespace secateur {

struct GateEntry {
  std::string corpus;   // id; empty: every evaluation corpus without an entry of its own
  double max_rise = 0;  // of bits per byte over the base's, relative: 0.2 = 20 %
};
// Not part of an expert's identity: it decides whether there is one, not which.
using QualityGate = std::vector<GateEntry>;

// FAILED_PRECONDITION with reason GATE_NOT_MET and a violation for each corpus that rises by more
// than its entry allows: measured and allowed values. A measurement that is not a number meets
// nothing.
absl::Status CheckGate(const QualityGate& gate,
                       const google::protobuf::RepeatedPtrField<v1::EvaluationResult>& evaluations);

}  // namespace secateur
