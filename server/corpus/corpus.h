// A corpus: immutable labelled documents, named by the digest of its documents alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/digest.h"

namespace secateur {

struct Document {
  std::string text;                    // UTF-8, 1 byte to 1 MiB
  std::string id;                      // may be empty; unique within a corpus when given
  std::optional<int64_t> answer_byte;  // offset in `text` where the answer begins; at a character
  std::vector<std::string> choices;    // options of a multiple-choice document
  std::optional<int64_t> label;        // index into `choices` of the right one
  std::string answer;

  friend bool operator==(const Document&, const Document&) = default;
};

// One line of the stored form: compact JSON, keys in the order text, id, answer_byte, choices,
// label, answer, absent ones left out, non-ASCII as it is, "\n" at the end. The corpus digest is
// the SHA-256 of these lines in order, so that the stored object proves itself.
std::string CanonicalLine(const Document& document);

enum class CorpusPurpose { kCalibration, kEvaluation };

// key=value pairs; both slugs: [a-z0-9] then up to 62 of [a-z0-9._-]. At most 32. A key has one
// value on a corpus.
using Labels = std::map<std::string, std::string>;
// INVALID_ARGUMENT naming the label and what a slug is.
absl::Status CheckLabels(const Labels& labels);

struct CorpusInfo {
  Digest digest;
  Labels labels;
  CorpusPurpose purpose = CorpusPurpose::kCalibration;
  std::string display_name;  // free text, at most 256 bytes
  int64_t documents = 0;
  int64_t bytes = 0;           // of all texts
  int64_t dropped_fields = 0;  // JSON fields that were not kept, over all documents
  absl::Time create_time;
  int64_t generation = 1;  // counts label changes; the etag is made from it

  std::string id() const { return digest.Id('c'); }
};

}  // namespace secateur
