// Checks that hold for every request, whatever its method. Errors name the field's path.
#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

#include "absl/status/statusor.h"
#include "secateur/v1/resources.pb.h"
#include "server/corpus/corpus_store.h"
#include "server/pipeline/expert_request.h"

namespace secateur {

// UNIMPLEMENTED for a field or an enum value that this build does not know, at any depth: nothing a
// client says is ignored.
absl::Status CheckAllFieldsKnown(const google::protobuf::Message& message);

// INVALID_ARGUMENT unless it is empty or at most 64 printable ASCII characters.
absl::Status CheckRequestId(std::string_view request_id);

// INVALID_ARGUMENT unless `tokens` is 2 to the model's positions.
absl::Status CheckDocumentTokens(int64_t tokens, int64_t max_positions, std::string_view path);

// UNIMPLEMENTED with the path of what is not honoured.
absl::Status NotHonoured(std::string_view path, std::string_view what);

// Labels, purpose and display name of a corpus to be.
absl::StatusOr<CorpusInfo> CorpusFromProto(const v1::Corpus& corpus);

// `labels.key = "value"` and `purpose = CALIBRATION|EVALUATION`, joined by AND; empty matches all.
absl::StatusOr<CorpusFilter> ParseCorpusFilter(std::string_view filter, std::string_view field);

// The budget of a spec, whichever it is. `path` is where it stands in the request.
absl::StatusOr<ExpertBudget> BudgetFromProto(const v1::Budget& budget, const ExpertRequest& request,
                                             std::string_view path);

// A spec with its defaults made explicit. With `budget_required` false an absent budget is as if no
// neurons were removed; VOCABULARY alone has none. `max_positions` bounds max_document_tokens.
absl::StatusOr<ExpertRequest> RequestFromProto(const v1::ExpertSpec& spec, int64_t max_positions,
                                               bool budget_required);

}  // namespace secateur
