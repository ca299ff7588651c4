// The evaluation corpora that a request names, and what it demands of them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/repeated_field.h>

#include "absl/status/statusor.h"
#include "secateur/v1/secateur.pb.h"
#include "server/corpus/corpus_store.h"
#include "server/pipeline/quality_gate.h"

namespace secateur {

// Their ids, sorted, each once. INVALID_ARGUMENT, with `path` (of the field), for a malformed name
// or more than 32.
absl::StatusOr<std::vector<std::string>> ParseEvaluationCorpora(
    const google::protobuf::RepeatedPtrField<std::string>& names, std::string_view path);

// NOT_FOUND; FAILED_PRECONDITION for a CALIBRATION corpus, since what an expert is made from cannot
// measure it.
absl::Status CheckEvaluationCorpora(const CorpusStore& corpora, const std::vector<std::string>& ids,
                                    std::string_view path);

// The gate of a request that evaluates on the corpora `ids`. INVALID_ARGUMENT for a gate without
// evaluation corpora, a corpus that is not one of them or stands there twice, or a rise that is
// negative or not finite.
absl::StatusOr<QualityGate> GateFromProto(
    const google::protobuf::RepeatedPtrField<v1::GateEntry>& entries,
    const std::vector<std::string>& ids);

}  // namespace secateur
