// What a chat template writes around the messages: text that every conversation has and that no
// corpus need have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace secateur {

// The pieces of text in a Jinja template: what stands outside of its tags and the string literals
// inside them, unescaped. Nothing is evaluated, so some pieces may never be written; a tag that
// does not end is text.
std::vector<std::string> TemplateTexts(std::string_view jinja);

// TemplateTexts() of every template of a model folder (tokenizer_config.json, chat_template.jinja,
// chat_template.json), and the usual names of roles if there is one. Missing files have none.
// INVALID_ARGUMENT for JSON that does not parse.
absl::StatusOr<std::vector<std::string>> ChatTemplateTexts(const std::string& folder);

}  // namespace secateur
