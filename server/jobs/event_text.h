// The bytes of the small objects that jobs keep: the SHA-256 of the rest in hex, a newline, and a
// JSON object. Of an event (format_version 2, bytes in base64) and its way back.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/jobs/operation.h"

namespace secateur {

std::string EventToText(const OperationEvent& event);
// DATA_LOSS when the bytes are not as written, or of another format version.
absl::StatusOr<OperationEvent> EventFromText(std::string_view text);

// The same around any text; DATA_LOSS when it does not match.
std::string WithDigest(const std::string& text);
absl::StatusOr<std::string> CheckDigest(std::string_view text);

}  // namespace secateur
