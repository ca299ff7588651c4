#include "server/service/validate.h"

#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_split.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/service/names.h"

namespace secateur {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

absl::Status CheckKnown(const Message& message, const std::string& path);

absl::Status CheckEnum(const FieldDescriptor& field, int number, const std::string& path) {
  if (field.enum_type()->FindValueByNumber(number) != nullptr) return absl::OkStatus();
  return NotHonoured(path, StrCat("value ", number, " of ", field.enum_type()->name(),
                                  " is not known to this server"));
}

absl::Status CheckField(const Message& message, const FieldDescriptor& field,
                        const std::string& path) {
  const Reflection& reflection = *message.GetReflection();
  if (field.is_map()) return absl::OkStatus();
  const int count = field.is_repeated() ? reflection.FieldSize(message, &field) : 1;
  for (int i = 0; i < count; ++i) {
    const std::string at = field.is_repeated() ? StrCat(path, "[", i, "]") : path;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      RETURN_IF_ERROR(CheckKnown(field.is_repeated()
                                     ? reflection.GetRepeatedMessage(message, &field, i)
                                     : reflection.GetMessage(message, &field),
                                 at));
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      RETURN_IF_ERROR(CheckEnum(field,
                                field.is_repeated()
                                    ? reflection.GetRepeatedEnumValue(message, &field, i)
                                    : reflection.GetEnumValue(message, &field),
                                at));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckKnown(const Message& message, const std::string& path) {
  const auto& unknown = message.GetReflection()->GetUnknownFields(message);
  if (!unknown.empty()) {
    return NotHonoured(Join(path, StrCat("#", unknown.field(0).number())),
                       StrCat("field number ", unknown.field(0).number(), " of ",
                              message.GetDescriptor()->name(), " is not known to this server"));
  }
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    RETURN_IF_ERROR(CheckField(message, *field, Join(path, field->name())));
  }
  return absl::OkStatus();
}

// A filter's terms, split at AND outside quotes.
std::vector<std::string> SplitTerms(std::string_view filter) {
  std::vector<std::string> terms(1);
  bool quoted = false;
  for (size_t i = 0; i < filter.size(); ++i) {
    if (filter[i] == '"') quoted = !quoted;
    if (!quoted && filter.substr(i, 5) == " AND ") {
      terms.emplace_back();
      i += 4;
    } else {
      terms.back() += filter[i];
    }
  }
  return terms;
}

absl::Status AddTerm(std::string_view term, std::string_view field, CorpusFilter& filter) {
  const std::pair<std::string, std::string> sides =
      absl::StrSplit(ToAbsl(term), absl::MaxSplits('=', 1));
  const std::string left(absl::StripAsciiWhitespace(sides.first));
  std::string right(absl::StripAsciiWhitespace(sides.second));
  if (left == "purpose" && (right == "CALIBRATION" || right == "EVALUATION")) {
    if (filter.purpose) return BadField(field, "purpose stands there twice");
    filter.purpose =
        right == "EVALUATION" ? CorpusPurpose::kEvaluation : CorpusPurpose::kCalibration;
    return absl::OkStatus();
  }
  const bool quoted = right.size() >= 2 && right.front() == '"' && right.back() == '"';
  if (left.starts_with("labels.") && quoted) {
    right = right.substr(1, right.size() - 2);
    if (IsSlug(left.substr(7)) && IsSlug(right)) {
      const bool first = filter.labels.emplace(left.substr(7), right).second;
      return first ? absl::OkStatus() : BadField(field, StrCat(left, " stands there twice"));
    }
  }
  return BadField(field, StrCat("\"", term,
                                "\" is not understood: use labels.KEY = \"VALUE\" or purpose "
                                "= CALIBRATION, joined by AND"));
}

}  // namespace

absl::Status BadField(std::string_view path, std::string_view message) {
  return WithField(absl::InvalidArgumentError(StrCat(path, ": ", message)), path);
}

absl::Status NotHonoured(std::string_view path, std::string_view what) {
  return WithReason(
      WithField(absl::UnimplementedError(
                    StrCat(path, ": ", what, " (not honoured by this server; leave it out)")),
                path),
      "NOT_HONOURED");
}

absl::Status CheckAllFieldsKnown(const Message& message) { return CheckKnown(message, ""); }

absl::Status CheckRequestId(std::string_view request_id) {
  const bool printable =
      std::all_of(request_id.begin(), request_id.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (request_id.size() <= 64 && printable) return absl::OkStatus();
  return BadField("request_id", "must be at most 64 printable ASCII characters without spaces");
}

absl::Status CheckDocumentTokens(int64_t tokens, int64_t max_positions, std::string_view path) {
  if (tokens >= 2 && tokens <= max_positions) return absl::OkStatus();
  return BadField(path,
                  StrCat(tokens, " is not 2 to ", max_positions, ", the positions of the model"));
}

absl::StatusOr<CorpusInfo> CorpusFromProto(const v1::Corpus& corpus) {
  CorpusInfo info;
  info.labels.insert(corpus.labels().begin(), corpus.labels().end());
  const absl::Status labels = CheckLabels(info.labels);
  if (!labels.ok()) return WithField(labels, "corpus.labels");
  info.purpose =
      corpus.purpose() == v1::EVALUATION ? CorpusPurpose::kEvaluation : CorpusPurpose::kCalibration;
  if (corpus.display_name().size() > 256) {
    return BadField("corpus.display_name", "is longer than 256 bytes");
  }
  info.display_name = corpus.display_name();
  return info;
}

absl::StatusOr<CorpusFilter> ParseCorpusFilter(std::string_view filter, std::string_view field) {
  CorpusFilter parsed;
  if (absl::StripAsciiWhitespace(ToAbsl(filter)).empty()) return parsed;
  if (filter.size() > 4096) return BadField(field, "is longer than 4096 bytes");
  for (const std::string& term : SplitTerms(filter)) {
    RETURN_IF_ERROR(AddTerm(term, field, parsed));
  }
  return parsed;
}

}  // namespace secateur
