// One line of JSON Lines to a document. Never throws; bounded depth and memory.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/corpus/corpus.h"

namespace secateur {

inline constexpr int kMostJsonDepth = 64;
inline constexpr size_t kMostIdBytes = 256;
inline constexpr size_t kMostChoices = 1000;

struct JsonDocument {
  Document document;
  int64_t dropped_fields = 0;  // fields of other names
};

// `line` is one JSON object in UTF-8. A field that Document keeps has the type that it has there
// and is given at most once; null stands for an absent one, but not for `text`. Fields of other
// names may hold any JSON, nested up to kMostJsonDepth deep. INVALID_ARGUMENT with the reason, and
// where the JSON itself is at fault with the byte's column, counted from 1.
absl::StatusOr<JsonDocument> ParseJsonDocument(std::string_view line);

}  // namespace secateur
