// Bridges between std::string_view, which our code speaks, and absl::string_view, which is a type
// of its own in Debian's Abseil (built as C++14): neither converts to the other by itself.
// secateur::StrCat takes everything absl::StrCat takes, and std::string_view. absl::StrFormat takes
// std::string_view already. The views returned point at the bytes given.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace secateur {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }

template <class... Parts>
std::string StrCat(const Parts&... parts) {
  const auto as_absl = [](const auto& part) -> decltype(auto) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(part)>, std::string_view>) {
      return ToAbsl(part);
    } else {
      return (part);
    }
  };
  return absl::StrCat(as_absl(parts)...);
}

}  // namespace secateur
