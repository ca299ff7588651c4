#include "server/corpus/corpus.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

constexpr size_t kMostLabels = 32;
constexpr size_t kMostSlugBytes = 63;

bool IsAlphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool IsSlugCharacter(char c) { return IsAlphanumeric(c) || c == '.' || c == '_' || c == '-'; }

bool IsSlug(std::string_view text) {
  return !text.empty() && text.size() <= kMostSlugBytes && IsAlphanumeric(text[0]) &&
         std::all_of(text.begin(), text.end(), IsSlugCharacter);
}

}  // namespace

std::string CanonicalLine(const Document& document) {
  nlohmann::ordered_json line;
  line["text"] = document.text;
  if (!document.id.empty()) line["id"] = document.id;
  if (document.answer_byte.has_value()) line["answer_byte"] = *document.answer_byte;
  if (!document.choices.empty()) line["choices"] = document.choices;
  if (document.label.has_value()) line["label"] = *document.label;
  if (!document.answer.empty()) line["answer"] = document.answer;
  // Documents are checked UTF-8; `replace` only says that this cannot throw.
  using ErrorHandler = nlohmann::ordered_json::error_handler_t;
  return line.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, ErrorHandler::replace) + "\n";
}

absl::Status CheckLabels(const Labels& labels) {
  if (labels.size() > kMostLabels) {
    return absl::InvalidArgumentError(
        StrCat(labels.size(), " labels; a corpus has at most ", kMostLabels));
  }
  for (const auto& [key, value] : labels) {
    if (IsSlug(key) && IsSlug(value)) continue;
    return absl::InvalidArgumentError(StrCat("label ", Quoted(key), "=", Quoted(value), ": the ",
                                             IsSlug(key) ? "value" : "key",
                                             " is no slug; a slug is one of [a-z0-9], then up to ",
                                             kMostSlugBytes - 1, " of [a-z0-9._-]"));
  }
  return absl::OkStatus();
}

}  // namespace secateur
