#include "server/model/json_fields.h"

#include <cmath>
#include <limits>

#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

// A value as an error shows it: compact, and cut where it is long.
std::string Shown(const Fields::Json& value) {
  constexpr size_t kLongest = 120;
  std::string text = value.dump(-1, ' ', true, Fields::Json::error_handler_t::replace);
  if (text.size() > kLongest) text = StrCat(text.substr(0, kLongest), "...");
  return text;
}

}  // namespace

const Fields::Json& Fields::Get(std::string_view key) const {
  static const Json& null = *new Json();
  const auto found = object_.find(key);
  return found == object_.end() ? null : *found;
}

std::string Fields::Describe(std::string_view key, std::string_view explanation) const {
  if (!Has(key)) return StrCat("config.json: \"", path_, key, "\" is missing: ", explanation);
  return StrCat("config.json: \"", path_, key, "\" is ", Shown(Get(key)), ": ", explanation);
}

absl::Status Fields::Invalid(std::string_view key, std::string_view explanation) const {
  return absl::InvalidArgumentError(Describe(key, explanation));
}

absl::Status Fields::Unimplemented(std::string_view key, std::string_view explanation) const {
  return absl::UnimplementedError(Describe(key, explanation));
}

absl::StatusOr<int64_t> Fields::Integer(std::string_view key, int64_t least, int64_t most) const {
  const std::string allowed = StrCat("it must be an integer from ", least, " to ", most);
  const Json& value = Get(key);
  if (!value.is_number_integer()) return Invalid(key, allowed);
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Invalid(key, allowed);
  }
  const int64_t number = value.get<int64_t>();
  if (number < least || number > most) return Invalid(key, allowed);
  return number;
}

absl::StatusOr<int64_t> Fields::IntegerOr(std::string_view key, int64_t fallback, int64_t least,
                                          int64_t most) const {
  return Get(key).is_null() ? fallback : Integer(key, least, most);
}

absl::StatusOr<double> Fields::Positive(std::string_view key) const {
  const Json& value = Get(key);
  const double number = value.is_number() ? value.get<double>() : 0.0;
  if (!std::isfinite(number) || number <= 0.0) {
    return Invalid(key, "it must be a number greater than 0");
  }
  return number;
}

absl::StatusOr<double> Fields::PositiveOr(std::string_view key, double fallback) const {
  return Get(key).is_null() ? fallback : Positive(key);
}

absl::StatusOr<bool> Fields::BooleanOr(std::string_view key, bool fallback) const {
  const Json& value = Get(key);
  if (value.is_null()) return fallback;
  if (!value.is_boolean()) return Invalid(key, "it must be true or false");
  return value.get<bool>();
}

absl::StatusOr<std::string> Fields::StringOr(std::string_view key,
                                             std::string_view fallback) const {
  const Json& value = Get(key);
  if (value.is_null()) return std::string(fallback);
  if (!value.is_string()) return Invalid(key, "it must be a string");
  return value.get<std::string>();
}

absl::StatusOr<Fields> Fields::Object(std::string_view key) const {
  const Json& value = Get(key);
  if (!value.is_object()) return Invalid(key, "it must be an object");
  return Fields(value, StrCat(path_, key, "."));
}

}  // namespace secateur
