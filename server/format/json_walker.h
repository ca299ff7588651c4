// Reads untrusted JSON one value at a time, without building a tree: memory stays with what the
// subclass keeps, however the text is nested. Refuses what a tree would hide: a key that an object
// has twice (the last one would win) and nesting deeper than `max_depth`.
//
// A subclass is told of each value with the keys that lead to it. Its first error ends the walk.
// One walk per object, one thread at a time. Internal to server/format and server/vocabulary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"

namespace secateur {

struct JsonFloat {
  std::string text;  // as written; also integers that do not fit 64 bits
};
// Non-negative integers are uint64_t, int64_t is negative.
using JsonScalar = std::variant<std::nullptr_t, bool, uint64_t, int64_t, JsonFloat, std::string>;
// "the number -3", "the string \"abc\"" ... for error messages.
std::string Describe(const JsonScalar& value);

class JsonWalker : private nlohmann::json_sax<nlohmann::json> {
 public:
  // INVALID_ARGUMENT with the byte offset for text that is not JSON; else the subclass's error.
  absl::Status Walk(std::string_view text);

 protected:
  explicit JsonWalker(size_t max_depth) : max_depth_(max_depth) {}
  ~JsonWalker() override = default;

  // How many objects and arrays are open around a value.
  size_t depth() const { return open_.size(); }
  // The key, in the `level`-th of them (0 = outermost), that leads to the value; empty in an array.
  // REQUIRES: level < depth().
  const std::string& KeyAt(size_t level) const { return open_[level].key; }

  // An object or array begins or ends; `depth()` counts itself both times.
  virtual absl::Status OnOpen(bool is_object) = 0;
  virtual absl::Status OnClose() = 0;
  virtual absl::Status OnScalar(JsonScalar value) = 0;

 private:
  struct Level {
    std::string key;
    std::set<std::string> seen;
  };

  bool Continue(absl::Status status);
  bool Open(bool is_object);
  bool Close();

  bool null() override { return Continue(OnScalar(nullptr)); }
  bool boolean(bool value) override { return Continue(OnScalar(value)); }
  bool number_integer(int64_t value) override { return Continue(OnScalar(value)); }
  bool number_unsigned(uint64_t value) override { return Continue(OnScalar(value)); }
  bool number_float(double, const std::string& text) override {
    return Continue(OnScalar(JsonFloat{text}));
  }
  bool string(std::string& value) override { return Continue(OnScalar(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) override;
  bool start_object(size_t) override { return Open(true); }
  bool key(std::string& value) override;
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(false); }
  bool end_array() override { return Close(); }
  // `position` counts the bytes read, with the one that is wrong.
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override;

  const size_t max_depth_;
  std::vector<Level> open_;
  absl::Status status_;
};

}  // namespace secateur
