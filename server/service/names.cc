#include "server/service/names.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"
#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

bool IsId(std::string_view id, char letter) {
  return id.size() == 41 && id[0] == letter && std::all_of(id.begin() + 1, id.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c)) &&
                  !absl::ascii_isupper(static_cast<unsigned char>(c));
         });
}

absl::Status Malformed(std::string_view name, std::string_view field, std::string_view form) {
  return WithField(absl::InvalidArgumentError(StrCat(field, " is \"",
                                                     absl::CHexEscape(ToAbsl(name.substr(0, 128))),
                                                     "\"; it must have the form ", form)),
                   field);
}

absl::StatusOr<ChildName> ParseChild(std::string_view name, std::string_view field,
                                     std::string_view collection, char letter) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(name), '/');
  if (parts.size() != 4 || parts[0] != "models" || !IsSlug(parts[1]) || parts[2] != collection ||
      !IsId(parts[3], letter)) {
    return Malformed(name, field,
                     StrCat("models/{model}/", collection, "/{id}, the id \"",
                            std::string_view(&letter, 1), "\" and 40 lower-case hex digits"));
  }
  return ChildName{parts[1], parts[3]};
}

}  // namespace

bool IsSlug(std::string_view text) {
  if (text.empty() || text.size() > 63) return false;
  const auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return lower(text[0]) && std::all_of(text.begin(), text.end(), [&](char c) {
           return lower(c) || c == '.' || c == '_' || c == '-';
         });
}

absl::StatusOr<std::string> ParseModelName(std::string_view name, std::string_view field) {
  if (!name.starts_with("models/") || !IsSlug(name.substr(7))) {
    return Malformed(name, field, "models/{model}; ListModels names the models");
  }
  return std::string(name.substr(7));
}

absl::StatusOr<std::string> ParseCorpusName(std::string_view name, std::string_view field) {
  if (!name.starts_with("corpora/") || !IsId(name.substr(8), 'c')) {
    return Malformed(name, field, "corpora/{corpus}, the id \"c\" and 40 lower-case hex digits");
  }
  return std::string(name.substr(8));
}

absl::StatusOr<std::string> ParseOperationName(std::string_view name, std::string_view field) {
  if (!name.starts_with("operations/") || !IsId(name.substr(11), 'o')) {
    return Malformed(name, field,
                     "operations/{operation}, the id \"o\" and 40 lower-case hex digits");
  }
  return std::string(name.substr(11));
}

absl::StatusOr<ChildName> ParseProfileName(std::string_view name, std::string_view field) {
  return ParseChild(name, field, "profiles", 'p');
}

absl::StatusOr<ChildName> ParseExpertName(std::string_view name, std::string_view field) {
  return ParseChild(name, field, "experts", 'e');
}

std::string ModelName(std::string_view model) { return StrCat("models/", model); }
std::string CorpusName(std::string_view id) { return StrCat("corpora/", id); }
std::string ProfileName(std::string_view model, std::string_view id) {
  return StrCat("models/", model, "/profiles/", id);
}
std::string ExpertName(std::string_view model, std::string_view id) {
  return StrCat("models/", model, "/experts/", id);
}
std::string OperationName(std::string_view id) { return StrCat("operations/", id); }

}  // namespace secateur
