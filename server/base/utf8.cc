#include "server/base/utf8.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/escaping.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

constexpr size_t kMaxQuotedBytes = 200;

// Bytes of the well-formed character at the start of `s`, 0 if there is none (Unicode table 3-7).
size_t CharacterLength(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const auto continues = [&](size_t i) { return i < s.size() && (byte(i) & 0xC0) == 0x80; };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (lead == 0xE0 && byte(1) < 0xA0) return 0;
    if (lead == 0xED && byte(1) > 0x9F) return 0;
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (lead == 0xF0 && byte(1) < 0x90) return 0;
    if (lead == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

}  // namespace

std::optional<size_t> FirstInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = CharacterLength(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

bool IsUtf8Boundary(std::string_view text, size_t offset) {
  if (offset == text.size()) return true;
  return offset < text.size() && (static_cast<uint8_t>(text[offset]) & 0xC0) != 0x80;
}

std::string Quoted(std::string_view text) {
  size_t end = std::min(text.size(), kMaxQuotedBytes);
  // Not through the middle of a character, which has at most three bytes after its first.
  for (int i = 0; i < 3 && end < text.size() && !IsUtf8Boundary(text, end); ++i) --end;
  const absl::string_view shown = ToAbsl(text.substr(0, end));
  const bool well_formed = !FirstInvalidUtf8(ToStd(shown));
  return StrCat("\"", well_formed ? absl::Utf8SafeCEscape(shown) : absl::CHexEscape(shown), "\"",
                end < text.size() ? "..." : "");
}

}  // namespace secateur
