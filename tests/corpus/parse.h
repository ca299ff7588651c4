// A whole upload through the parser, cut into chunks as a test likes.
#pragma once

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/status_macros.h"
#include "server/corpus/reader.h"

namespace secateur {

struct Parsed {
  std::vector<Document> documents;
  int64_t dropped_fields = 0;
};

// `chunk_size(at)` says how many bytes from `at` come next; more than there are means all.
inline absl::StatusOr<Parsed> Parse(CorpusFormat format, std::string_view bytes,
                                    const std::function<size_t(size_t)>& chunk_size,
                                    CorpusLimits limits = {}) {
  Parsed parsed;
  CorpusParser parser(format, limits, [&parsed](Document document) {
    parsed.documents.push_back(std::move(document));
    return absl::OkStatus();
  });
  for (size_t at = 0; at < bytes.size();) {
    const std::string_view chunk = bytes.substr(at, chunk_size(at));
    RETURN_IF_ERROR(parser.Append(chunk));
    at += chunk.size();
  }
  RETURN_IF_ERROR(parser.Finish());
  parsed.dropped_fields = parser.dropped_fields();
  if (static_cast<size_t>(parser.documents()) != parsed.documents.size()) {
    return absl::InternalError("the parser counts other documents than it hands out");
  }
  return parsed;
}

inline absl::StatusOr<Parsed> Parse(CorpusFormat format, std::string_view bytes,
                                    CorpusLimits limits = {}) {
  return Parse(format, bytes, [&](size_t) { return bytes.size(); }, limits);
}

inline absl::StatusOr<Parsed> ParseJson(std::string_view bytes, CorpusLimits limits = {}) {
  return Parse(CorpusFormat::kJsonLines, bytes, limits);
}
inline absl::StatusOr<Parsed> ParseText(std::string_view bytes, CorpusLimits limits = {}) {
  return Parse(CorpusFormat::kText, bytes, limits);
}

}  // namespace secateur
