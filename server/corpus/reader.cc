#include "server/corpus/reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"
#include "server/corpus/json_document.h"

namespace secateur {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// A character may be written as an escape of six bytes, and fields that are dropped take room too.
constexpr int64_t kJsonLineFactor = 8;
constexpr int64_t kJsonLineExtra = 64 << 10;

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

absl::Status AtLine(int64_t line, const absl::Status& status) {
  return Annotate(status, StrCat("line ", line));
}

absl::Status CheckUtf8(std::string_view line) {
  const std::optional<size_t> bad = FirstInvalidUtf8(line);
  if (!bad.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("invalid UTF-8 at column %d: byte 0x%02X",
                                                    *bad + 1, static_cast<uint8_t>(line[*bad])));
}

absl::Status Exceeds(std::string_view what, int64_t limit) {
  return absl::ResourceExhaustedError(StrCat(what, " exceeds the limit of ", limit, " bytes"));
}

}  // namespace

CorpusParser::CorpusParser(CorpusFormat format, CorpusLimits limits, Sink sink)
    : format_(format), limits_(limits), sink_(std::move(sink)) {}

absl::Status CorpusParser::Append(std::string_view chunk) {
  if (!status_.ok()) return status_;
  const auto room = static_cast<size_t>(limits_.corpus_bytes - bytes_);
  const bool too_much = chunk.size() > room;
  if (too_much) chunk = chunk.substr(0, room);
  bytes_ += static_cast<int64_t>(chunk.size());
  status_ = Split(chunk);
  if (status_.ok() && too_much) {
    status_ = AtLine(line_ + 1, Exceeds("the upload", limits_.corpus_bytes));
  }
  return status_;
}

absl::Status CorpusParser::Finish() {
  if (status_.ok()) status_ = End();
  return status_;
}

absl::Status CorpusParser::Split(std::string_view chunk) {
  while (true) {
    const size_t end = chunk.find('\n');
    RETURN_IF_ERROR(CheckLineSize(partial_.size() + std::min(end, chunk.size())));
    if (end == std::string_view::npos) {
      partial_ += chunk;
      return absl::OkStatus();
    }
    if (partial_.empty()) {
      RETURN_IF_ERROR(Line(chunk.substr(0, end)));
    } else {
      partial_ += chunk.substr(0, end);
      RETURN_IF_ERROR(Line(partial_));
      partial_.clear();
    }
    chunk.remove_prefix(end + 1);
  }
}

absl::Status CorpusParser::CheckLineSize(size_t size) const {
  const int64_t most = format_ == CorpusFormat::kText
                           ? limits_.document_bytes + 4  // a byte-order mark, a carriage return
                           : kJsonLineFactor * limits_.document_bytes + kJsonLineExtra;
  if (static_cast<int64_t>(size) <= most) return absl::OkStatus();
  return AtLine(line_ + 1, Exceeds("the line",
                                   format_ == CorpusFormat::kText ? limits_.document_bytes : most));
}

// `line` without its newline.
absl::Status CorpusParser::Line(std::string_view line) {
  if (++line_ == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  if (line.ends_with('\r')) line.remove_suffix(1);
  const absl::Status utf8 = CheckUtf8(line);
  if (!utf8.ok()) return AtLine(line_, utf8);
  return format_ == CorpusFormat::kText ? TextLine(line) : JsonLine(line);
}

absl::Status CorpusParser::JsonLine(std::string_view line) {
  if (IsBlank(line)) return absl::OkStatus();
  absl::StatusOr<JsonDocument> parsed = ParseJsonDocument(line);
  if (!parsed.ok()) return AtLine(line_, parsed.status());
  dropped_fields_ += parsed->dropped_fields;
  return Emit(std::move(parsed->document), line_);
}

absl::Status CorpusParser::TextLine(std::string_view line) {
  if (IsBlank(line)) return EndParagraph();
  if (paragraph_.empty()) {
    paragraph_line_ = line_;
  } else {
    paragraph_ += '\n';
  }
  paragraph_ += line;
  if (static_cast<int64_t>(paragraph_.size()) <= limits_.document_bytes) return absl::OkStatus();
  return AtLine(paragraph_line_, Exceeds("the paragraph", limits_.document_bytes));
}

absl::Status CorpusParser::EndParagraph() {
  if (paragraph_.empty()) return absl::OkStatus();
  Document document;
  document.text = std::exchange(paragraph_, {});
  return Emit(std::move(document), paragraph_line_);
}

absl::Status CorpusParser::Emit(Document document, int64_t line) {
  if (static_cast<int64_t>(document.text.size()) > limits_.document_bytes) {
    return AtLine(line, Exceeds("`text`", limits_.document_bytes));
  }
  size_t answers = document.answer.size();
  for (const std::string& choice : document.choices) answers += choice.size();
  if (static_cast<int64_t>(answers) > limits_.document_bytes) {
    return AtLine(line, Exceeds("`choices` and `answer`", limits_.document_bytes));
  }
  if (documents_ == limits_.documents) {
    return AtLine(line, absl::ResourceExhaustedError(StrCat("the upload exceeds the limit of ",
                                                            limits_.documents, " documents")));
  }
  if (!document.id.empty()) {
    const auto [first, is_new] = ids_.try_emplace(document.id, line);
    if (!is_new) {
      return AtLine(line, absl::InvalidArgumentError(StrCat("`id` ", Quoted(document.id),
                                                            " was given on line ", first->second)));
    }
  }
  ++documents_;
  return sink_(std::move(document));
}

absl::Status CorpusParser::End() {
  if (!partial_.empty()) RETURN_IF_ERROR(Line(std::exchange(partial_, {})));
  RETURN_IF_ERROR(EndParagraph());
  if (documents_ > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      format_ == CorpusFormat::kText
          ? "the upload holds no document: a document is a paragraph of text"
          : "the upload holds no document: a document is a line with a JSON object");
}

}  // namespace secateur
