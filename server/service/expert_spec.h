// From what is asked of an expert to a request with its defaults made explicit. Errors name the
// field's path: INVALID_ARGUMENT for a malformed value, UNIMPLEMENTED for one that is not honoured.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "secateur/v1/expert_spec.pb.h"
#include "server/pipeline/expert_request.h"

namespace secateur {

// Whether units of this kind go; neurons do when none is named.
bool Removes(const v1::ExpertSpec& spec, v1::UnitKind unit);

// The budget of a spec, whichever it is. `path` is where it stands in the request.
absl::StatusOr<ExpertBudget> BudgetFromProto(const v1::Budget& budget, const ExpertRequest& request,
                                             std::string_view path);

// A spec with its defaults made explicit. With `budget_required` false an absent budget is as if no
// neurons were removed; VOCABULARY alone has none. `max_positions` bounds max_document_tokens.
absl::StatusOr<ExpertRequest> RequestFromProto(const v1::ExpertSpec& spec, int64_t max_positions,
                                               bool budget_required);

}  // namespace secateur
