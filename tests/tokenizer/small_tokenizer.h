// A tokenizer.json small enough to know by heart: bytes as GPT-2 spells them, two merges ("t h",
// "th e"), and one special token.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace secateur {

inline constexpr uint32_t kSmallTh = 256;
inline constexpr uint32_t kSmallThe = 257;
inline constexpr uint32_t kSmallSpecial = 258;
inline constexpr uint32_t kSmallVocabulary = 259;

// The character that stands for `byte`: printable Latin-1 is itself, the others follow from U+0100.
inline std::string SpelledByte(int byte) {
  const auto is_printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  int code = byte;
  if (!is_printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += is_printable(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// The id of each byte is its value.
inline nlohmann::json SmallTokenizer() {
  nlohmann::json vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary[SpelledByte(byte)] = byte;
  vocabulary["th"] = kSmallTh;
  vocabulary["the"] = kSmallThe;
  const nlohmann::json special = {
      {"id", kSmallSpecial}, {"content", "<|special|>"}, {"single_word", false}, {"lstrip", false},
      {"rstrip", false},     {"normalized", false},      {"special", true}};
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", false},
                                     {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", {special}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocabulary},
            {"merges", {"t h", "th e"}}}}};
}

}  // namespace secateur
