// A list of corpora to upload, as examples/corpora/manifest.json: a JSON array of objects with
// `file` (relative to the list's folder), `labels`, and optionally `purpose` and `documents`.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace secateur::cli {

struct ListedCorpus {
  std::string path;
  std::map<std::string, std::string> labels;
  std::string purpose;    // as written; empty when absent
  int64_t documents = 0;  // 0 when absent
};

// Errors: NOT_FOUND (the list cannot be read), INVALID_ARGUMENT (not such a list, with the entry's
// number; a file outside the list's folder).
absl::StatusOr<std::vector<ListedCorpus>> ReadCorpusList(const std::string& path);

}  // namespace secateur::cli
