// Bytes of an upload to documents.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/status.h"
#include "server/corpus/corpus.h"

namespace secateur {

enum class CorpusFormat {
  kJsonLines,  // one JSON object a line; "text" is required; see Document for what is kept
  kText,       // one document a paragraph: separated by one or more blank lines
};

struct CorpusLimits {
  int64_t document_bytes = 1 << 20;         // of a text; also of its choices and answer together
  int64_t corpus_bytes = int64_t{1} << 30;  // of the upload
  int64_t documents = 1'000'000;
};

// Splits a byte stream, in chunks of any size, into checked documents: how the stream is cut makes
// no difference. Memory: one line (text: one paragraph), bounded by the limits. One thread at a
// time.
//
// Errors are INVALID_ARGUMENT "line N: ..." with the reason: invalid UTF-8 with the byte's column,
// JSON that does not parse or is not one object, `text` missing, empty or not a string, answer_byte
// outside the text or inside a character, label outside choices, a kept field of another type (ids
// are strings) or given twice, an id seen before (naming the first line). RESOURCE_EXHAUSTED names
// the limit that was passed. After an error, every call returns it again.
// CRLF ends a line like LF; a byte-order mark at the start and blank lines (JSON Lines; blank is
// empty or spaces and tabs) are skipped; the last line needs no newline. The lines of a paragraph
// are joined by "\n".
class CorpusParser {
 public:
  using Sink = std::function<absl::Status(Document)>;

  CorpusParser(CorpusFormat format, CorpusLimits limits, Sink sink);

  absl::Status Append(std::string_view chunk);
  // After the last chunk, once. INVALID_ARGUMENT when there was no document at all.
  absl::Status Finish();

  int64_t documents() const { return documents_; }
  int64_t dropped_fields() const { return dropped_fields_; }

 private:
  absl::Status Split(std::string_view chunk);
  absl::Status CheckLineSize(size_t size) const;
  absl::Status Line(std::string_view line);
  absl::Status JsonLine(std::string_view line);
  absl::Status TextLine(std::string_view line);
  absl::Status EndParagraph();
  absl::Status Emit(Document document, int64_t line);
  absl::Status End();

  const CorpusFormat format_;
  const CorpusLimits limits_;
  const Sink sink_;
  absl::Status status_;    // the first error
  std::string partial_;    // the line that has not ended yet
  std::string paragraph_;  // kText: lines of the paragraph so far
  int64_t paragraph_line_ = 0;
  int64_t line_ = 0;  // lines completed
  int64_t bytes_ = 0;
  int64_t documents_ = 0;
  int64_t dropped_fields_ = 0;
  std::unordered_map<std::string, int64_t> ids_;  // id to line; 1,000,000 entries at most
};

}  // namespace secateur
