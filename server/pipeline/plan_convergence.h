// Whether there are enough documents behind a plan, in the words of the API.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "secateur/v1/resources.pb.h"
#include "server/mask/convergence.h"
#include "server/pipeline/plan_expert.h"

namespace secateur {

// For several sizes of one request. Composing the halves costs a few times what composing the whole
// does, so it is done when the first size asks for it, and requests that only look an expert up
// never do. One thread at a time; `composed` must outlive it.
class PlanConvergence {
 public:
  explicit PlanConvergence(const ComposedRequest& composed) : composed_(composed) {}

  // Nothing where no neurons go, and for rules but RELATIVE_MEAN and SECOND_ORDER: profiles keep
  // relative scores alone by half.
  absl::StatusOr<std::optional<v1::Convergence>> At(const PlannedExpert& planned);

 private:
  const ComposedRequest& composed_;
  bool is_composed_ = false;
  std::optional<Halves> halves_;
};

}  // namespace secateur
