#include "server/vocabulary/chat_template.h"

#include <nlohmann/json.hpp>

#include "server/base/status_macros.h"
#include "server/vocabulary/model_file.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

char Unescaped(char escaped) {
  switch (escaped) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    default:
      return escaped;
  }
}

// The string literals of a tag's inside.
void AddLiterals(std::string_view tag, std::vector<std::string>& texts) {
  for (size_t i = 0; i < tag.size(); ++i) {
    if (tag[i] != '\'' && tag[i] != '"') continue;
    const char quote = tag[i];
    std::string literal;
    for (++i; i < tag.size() && tag[i] != quote; ++i) {
      if (tag[i] == '\\' && i + 1 < tag.size()) {
        literal += Unescaped(tag[++i]);
      } else {
        literal += tag[i];
      }
    }
    if (!literal.empty()) texts.push_back(std::move(literal));
  }
}

// What ends the tag that starts with `open`; nothing for text.
std::string_view EndOf(std::string_view open) {
  return open == "{{" ? "}}" : open == "{%" ? "%}" : open == "{#" ? "#}" : "";
}

void AddTemplates(const Json& value, std::vector<std::string>& templates) {
  if (value.is_string()) templates.push_back(value.get<std::string>());
  if (!value.is_array()) return;
  for (const Json& named : value) {  // [{"name": "default", "template": "..."}]
    if (named.is_object() && named.contains("template")) {
      AddTemplates(named["template"], templates);
    }
  }
}

absl::StatusOr<std::vector<std::string>> Templates(const std::string& folder) {
  std::vector<std::string> templates;
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    ASSIGN_OR_RETURN(const std::optional<Json> json, ReadModelJson(folder, name));
    if (json && json->is_object() && json->contains("chat_template")) {
      AddTemplates((*json)["chat_template"], templates);
    }
  }
  ASSIGN_OR_RETURN(std::optional<std::string> jinja, ReadModelFile(folder, "chat_template.jinja"));
  if (jinja) templates.push_back(*std::move(jinja));
  return templates;
}

}  // namespace

std::vector<std::string> TemplateTexts(std::string_view jinja) {
  std::vector<std::string> texts;
  std::string text;
  while (!jinja.empty()) {
    const std::string_view end = EndOf(jinja.substr(0, 2));
    const size_t close = end.empty() ? std::string_view::npos : jinja.find(end, 2);
    if (close == std::string_view::npos) {
      text += jinja[0];
      jinja.remove_prefix(1);
      continue;
    }
    if (!text.empty()) texts.push_back(std::exchange(text, {}));
    if (end != "#}") AddLiterals(jinja.substr(2, close - 2), texts);
    jinja.remove_prefix(close + 2);
  }
  if (!text.empty()) texts.push_back(text);
  return texts;
}

absl::StatusOr<std::vector<std::string>> ChatTemplateTexts(const std::string& folder) {
  ASSIGN_OR_RETURN(const std::vector<std::string> templates, Templates(folder));
  if (templates.empty()) return std::vector<std::string>();
  std::vector<std::string> texts = {"system", "user", "assistant", "model", "tool", "developer"};
  for (const std::string& jinja : templates) {
    for (std::string& text : TemplateTexts(jinja)) texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace secateur
