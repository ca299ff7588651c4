// Checks that hold for every request, whatever its method. Errors name the field's path.
#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

#include "absl/status/statusor.h"
#include "secateur/v1/resources.pb.h"
#include "server/corpus/corpus_store.h"

namespace secateur {

// UNIMPLEMENTED for a field or an enum value that this build does not know, at any depth: nothing a
// client says is ignored.
absl::Status CheckAllFieldsKnown(const google::protobuf::Message& message);

// INVALID_ARGUMENT unless it is empty or at most 64 printable ASCII characters, no spaces.
absl::Status CheckRequestId(std::string_view request_id);

// INVALID_ARGUMENT unless `tokens` is 2 to the model's positions.
absl::Status CheckDocumentTokens(int64_t tokens, int64_t max_positions, std::string_view path);

// INVALID_ARGUMENT with the path of the field and what is wrong with it.
absl::Status BadField(std::string_view path, std::string_view message);

// UNIMPLEMENTED with the path of what is not honoured.
absl::Status NotHonoured(std::string_view path, std::string_view what);

// Labels, purpose and display name of a corpus to be.
absl::StatusOr<CorpusInfo> CorpusFromProto(const v1::Corpus& corpus);

// `labels.key = "value"` and `purpose = CALIBRATION|EVALUATION`, joined by AND; empty matches all.
absl::StatusOr<CorpusFilter> ParseCorpusFilter(std::string_view filter, std::string_view field);

}  // namespace secateur
