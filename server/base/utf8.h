// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, at most U+10FFFF.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace secateur {

// The offset of the first byte that starts no well-formed character, or nothing when all is well.
std::optional<size_t> FirstInvalidUtf8(std::string_view text);
// True at 0, at text.size(), and wherever a character starts. `text` must be well-formed.
bool IsUtf8Boundary(std::string_view text, size_t offset);

// `text` in double quotes, fit for an error message or a log line whatever it holds: control
// characters, quotes and bytes that are not UTF-8 are escaped as in C, and what is past 200 bytes
// is left out with "..." after the closing quote.
std::string Quoted(std::string_view text);

}  // namespace secateur
