#include "server/format/json_walker.h"

#include <type_traits>
#include <utility>

#include "server/base/strings.h"
#include "server/base/utf8.h"

namespace secateur {

std::string Describe(const JsonScalar& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::nullptr_t>)
          return "null";
        else if constexpr (std::is_same_v<T, bool>)
          return v ? "true" : "false";
        else if constexpr (std::is_same_v<T, JsonFloat>)
          return StrCat("the number ", Quoted(v.text));
        else if constexpr (std::is_same_v<T, std::string>)
          return StrCat("the string ", Quoted(v));
        else
          return StrCat("the number ", v);
      },
      value);
}

absl::Status JsonWalker::Walk(std::string_view text) {
  using Events = nlohmann::json_sax<nlohmann::json>;
  nlohmann::json::sax_parse(text.begin(), text.end(), static_cast<Events*>(this));
  return status_;
}

bool JsonWalker::Continue(absl::Status status) {
  status_ = std::move(status);
  return status_.ok();
}

bool JsonWalker::Open(bool is_object) {
  if (open_.size() == max_depth_) {
    return Continue(absl::InvalidArgumentError(
        StrCat("objects or arrays are nested deeper than ", max_depth_, " levels")));
  }
  open_.emplace_back();
  return Continue(OnOpen(is_object));
}

bool JsonWalker::Close() {
  if (!Continue(OnClose())) return false;
  open_.pop_back();
  return true;
}

bool JsonWalker::key(std::string& value) {
  Level& level = open_.back();
  level.key = value;
  if (level.seen.insert(std::move(value)).second) return true;
  return Continue(absl::InvalidArgumentError(
      StrCat("the name ", Quoted(level.key), " appears twice in one object")));
}

bool JsonWalker::binary(nlohmann::json::binary_t&) {
  return Continue(absl::InvalidArgumentError("JSON text holds no binary values"));
}

bool JsonWalker::parse_error(size_t position, const std::string& last_token,
                             const nlohmann::detail::exception&) {
  return Continue(absl::InvalidArgumentError(
      StrCat("not valid JSON at byte ", position - 1, ", near ", Quoted(last_token))));
}

}  // namespace secateur
