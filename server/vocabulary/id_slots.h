// The token ids that JSON files of a model folder hold, and where: for collecting them and for
// putting new ones in their place.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace secateur {

// Gets an id and gives the one to put there instead (the same to leave it).
using IdVisitor = std::function<absl::StatusOr<int64_t>(int64_t id)>;

// Of tokenizer.json without its model: added_tokens, padding, and the post-processor.
// UNIMPLEMENTED for a kind of post-processor that is not known; errors name the key.
absl::Status VisitTokenizerIds(nlohmann::ordered_json& tokenizer, const IdVisitor& visit);

// Of config.json or generation_config.json: keys at any depth that end in _token_id, _token_ids or
// _token_index, and lists of suppressed tokens and words. Negative numbers and null mean "none" and
// stay. UNIMPLEMENTED for keys that hold ids in other forms.
absl::Status VisitConfigIds(nlohmann::ordered_json& config, std::string_view file,
                            const IdVisitor& visit);

// Of tokenizer_config.json: the keys of added_tokens_decoder.
absl::Status VisitTokenizerConfigIds(nlohmann::ordered_json& config, const IdVisitor& visit);

// Of added_tokens.json, an object from text to id.
absl::Status VisitAddedTokenIds(nlohmann::ordered_json& added, const IdVisitor& visit);

}  // namespace secateur
