// Typed fields of one JSON object of config.json. Each reader checks type and range, and its error
// names the field with its path, the value found and what is allowed. Values come from
// hostile files: nothing is converted silently (1.0 is no integer, "1" is no number).
//
// A Fields object borrows the JSON it reads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace secateur {

class Fields {
 public:
  using Json = nlohmann::ordered_json;

  // `path` is what errors put before a key: "" or "rope_parameters.".
  Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  const Json& object() const { return object_; }
  // The value of `key`; null where the key is absent.
  const Json& Get(std::string_view key) const;
  bool Has(std::string_view key) const { return object_.contains(key); }  // null counts

  // INVALID_ARGUMENT when the key is absent or null, or the value is out of [least, most].
  absl::StatusOr<int64_t> Integer(std::string_view key, int64_t least, int64_t most) const;
  // As above with `fallback` for an absent or null key; the fallback is not checked.
  absl::StatusOr<int64_t> IntegerOr(std::string_view key, int64_t fallback, int64_t least,
                                    int64_t most) const;
  // Finite and greater than zero.
  absl::StatusOr<double> Positive(std::string_view key) const;
  absl::StatusOr<double> PositiveOr(std::string_view key, double fallback) const;
  absl::StatusOr<bool> BooleanOr(std::string_view key, bool fallback) const;
  absl::StatusOr<std::string> StringOr(std::string_view key, std::string_view fallback) const;
  // The object at `key`; an error unless it is one.
  absl::StatusOr<Fields> Object(std::string_view key) const;

  // "config.json: \"a.b\" is 3: <explanation>".
  absl::Status Invalid(std::string_view key, std::string_view explanation) const;
  absl::Status Unimplemented(std::string_view key, std::string_view explanation) const;

 private:
  std::string Describe(std::string_view key, std::string_view explanation) const;

  const Json& object_;
  std::string path_;
};

}  // namespace secateur
