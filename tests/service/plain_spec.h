// Specs that tests of requests begin with.
#pragma once

#include <cstdint>
#include <string>

#include "secateur/v1/expert_spec.pb.h"

namespace secateur {

inline constexpr int64_t kPositions = 2048;  // of the model

// As little as a spec can say.
inline v1::ExpertSpec Plain() {
  v1::ExpertSpec spec;
  spec.add_select()->set_key("language");
  spec.mutable_select(0)->add_values("en");
  spec.mutable_budget()->set_neuron_ratio(0.25);
  return spec;
}

// All of Cus-Prun but its sigma.
inline void RemoveAttention(v1::ExpertSpec& spec) {
  spec.set_rule(v1::CUS_PRUN);
  spec.set_shape(v1::MASKED);
  spec.add_units(v1::FFN_NEURON);
  spec.add_units(v1::ATTENTION_CHANNEL);
}

inline std::string CorpusName() { return "corpora/c" + std::string(40, 'a'); }

}  // namespace secateur
