#include "server/corpus/json_document.h"

#include <array>
#include <bitset>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

using Json = nlohmann::json;

enum Field : size_t { kText, kId, kAnswerByte, kChoices, kLabel, kAnswer, kFields };

struct FieldRow {
  std::string_view name;
  std::string_view type;
};
constexpr std::array<FieldRow, kFields> kFieldTable = {{
    {"text", "a string"},
    {"id", "a string"},
    {"answer_byte", "a whole number"},
    {"choices", "an array of strings"},
    {"label", "a whole number"},
    {"answer", "a string"},
}};

// Takes the parser's events and keeps only what a Document keeps: nothing else is ever in memory.
// A method that returns false ends the parse, with the reason in `status`.
class DocumentHandler final : public nlohmann::json_sax<Json> {
 public:
  JsonDocument result;
  absl::Status status;

  bool null() override { return Scalar("null", field_ != kText); }
  bool boolean(bool) override { return Scalar("a boolean", false); }
  bool number_float(double, const std::string&) override {
    return Scalar("a number that is not whole or past 64 bits", false);
  }
  bool binary(Json::binary_t&) override { return Refuse("not valid JSON: binary data"); }

  bool number_integer(int64_t value) override {
    const bool wanted = AtField() && (field_ == kAnswerByte || field_ == kLabel);
    if (wanted) (field_ == kLabel ? document().label : document().answer_byte) = value;
    return Scalar("a number", wanted);
  }
  bool number_unsigned(uint64_t value) override {
    if (value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return number_integer(static_cast<int64_t>(value));
    }
    return number_float(0, {});
  }

  bool string(std::string& value) override {
    if (in_choices_ && depth_ == 2) {
      if (document().choices.size() == kMostChoices) {
        return Refuse(StrCat("`choices` holds more than ", kMostChoices, " strings"));
      }
      document().choices.push_back(std::move(value));
      return true;
    }
    const bool wanted = AtField() && (field_ == kText || field_ == kId || field_ == kAnswer);
    if (wanted) {
      std::string& kept = field_ == kText ? document().text
                          : field_ == kId ? document().id
                                          : document().answer;
      kept = std::move(value);
    }
    return Scalar("a string", wanted);
  }

  bool start_object(size_t) override {
    if (depth_ > 0 && !Scalar("an object", false)) return false;
    return Deeper();
  }
  bool start_array(size_t) override {
    const bool choices = AtField() && field_ == kChoices;
    if (!Scalar("an array", choices)) return false;
    if (choices) in_choices_ = true;
    return Deeper();
  }
  bool end_object() override { return Shallower(); }
  bool end_array() override { return Shallower(); }

  bool key(std::string& name) override {
    if (depth_ != 1) return true;
    field_ = kText;
    while (field_ < kFields && kFieldTable[field_].name != name) ++field_;
    if (field_ == kFields) {
      ++result.dropped_fields;
    } else if (seen_[field_]) {
      return Refuse(StrCat("`", name, "` is given twice"));
    } else {
      seen_.set(field_);
    }
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    return Refuse(StrCat("not valid JSON at column ", position, ": ", Reason(error.what())));
  }

  absl::Status CheckFields() const {
    if (!seen_[kText]) return absl::InvalidArgumentError("`text` is missing");
    return absl::OkStatus();
  }

 private:
  Document& document() { return result.document; }
  // At the value of one of the fields that are kept.
  bool AtField() const { return depth_ == 1 && field_ < kFields; }

  // A value of the type `what`: where a field is kept, it must be one that is `wanted` there.
  bool Scalar(std::string_view what, bool wanted) {
    if (depth_ == 0) return Refuse(StrCat("a line is one JSON object, not ", what));
    if (in_choices_) return Refuse(StrCat("`choices` must be an array of strings; one is ", what));
    if (!AtField() || wanted) return true;
    const FieldRow& row = kFieldTable[field_];
    return Refuse(StrCat("`", row.name, "` must be ", row.type, ", not ", what));
  }

  bool Deeper() {
    if (++depth_ <= kMostJsonDepth) return true;
    return Refuse(StrCat("not valid JSON here: nested more than ", kMostJsonDepth, " deep"));
  }
  bool Shallower() {
    --depth_;
    in_choices_ = false;  // only its own end can come while it is true
    return true;
  }

  bool Refuse(const std::string& reason) {
    status = absl::InvalidArgumentError(reason);
    return false;
  }

  // The library's reason without its own positions and without the text it last read.
  static std::string Reason(std::string_view what) {
    const size_t begin = what.find("syntax error");
    if (begin != std::string_view::npos) what.remove_prefix(begin);
    what = what.substr(0, what.find("; last read:"));
    return std::string(what.substr(0, what.find(" parsing '")));
  }

  int depth_ = 0;
  size_t field_ = kFields;
  bool in_choices_ = false;
  std::bitset<kFields> seen_;
};

absl::Status CheckDocument(const Document& document) {
  const std::string& text = document.text;
  if (text.empty()) return absl::InvalidArgumentError("`text` is empty");
  if (document.id.size() > kMostIdBytes) {
    return absl::InvalidArgumentError(
        StrCat("`id` has ", document.id.size(), " bytes, at most ", kMostIdBytes, " are allowed"));
  }
  if (const auto at = document.answer_byte; at.has_value()) {
    if (*at < 0 || *at >= static_cast<int64_t>(text.size())) {
      return absl::InvalidArgumentError(
          StrCat("`answer_byte` is ", *at, ", outside the text of ", text.size(), " bytes"));
    }
    if (!IsUtf8Boundary(text, static_cast<size_t>(*at))) {
      return absl::InvalidArgumentError(
          StrCat("`answer_byte` is ", *at, ", inside a character of the text"));
    }
  }
  const auto choices = static_cast<int64_t>(document.choices.size());
  if (const auto label = document.label; label.has_value() && (*label < 0 || *label >= choices)) {
    return absl::InvalidArgumentError(
        StrCat("`label` is ", *label, ", outside the ", choices, " `choices`"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JsonDocument> ParseJsonDocument(std::string_view line) {
  // The library would skip a mark at the start of every line.
  if (line.starts_with("\xEF\xBB\xBF")) {
    return absl::InvalidArgumentError(
        "not valid JSON at column 1: a byte-order mark that is not at the start of the upload");
  }
  DocumentHandler handler;
  if (!Json::sax_parse(line, &handler)) return handler.status;
  RETURN_IF_ERROR(handler.CheckFields());
  RETURN_IF_ERROR(CheckDocument(handler.result.document));
  return std::move(handler.result);
}

}  // namespace secateur
