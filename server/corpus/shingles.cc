#include "server/corpus/shingles.h"

#include <algorithm>
#include <array>

namespace secateur {
namespace {

constexpr int kShingleHalves = 16;  // half words

struct Token {
  uint64_t hash;
  int halves;
};

// Spreads every bit over all others (the finalizer of SplitMix64).
uint64_t Mix(uint64_t value) {
  value = (value ^ value >> 30U) * 0xBF58476D1CE4E5B9U;
  value = (value ^ value >> 27U) * 0x94D049BB133111EBU;
  return value ^ value >> 31U;
}

uint64_t Combine(uint64_t hash, uint64_t next) { return Mix(hash * 31 + next + 1); }

struct Character {
  uint32_t code;
  size_t bytes;
};

// The character at the start of well-formed `text`.
Character First(std::string_view text) {
  const auto byte = [&](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(i < text.size() ? text[i] : '\0'));
  };
  const auto tail = [&](size_t i) { return byte(i) & 0x3FU; };
  if (byte(0) < 0x80) return {byte(0), 1};
  if (byte(0) < 0xE0) return {(byte(0) & 0x1FU) << 6U | tail(1), 2};
  if (byte(0) < 0xF0) return {(byte(0) & 0xFU) << 12U | tail(1) << 6U | tail(2), 3};
  return {(byte(0) & 7U) << 18U | tail(1) << 12U | tail(2) << 6U | tail(3), 4};
}

bool IsSpace(uint32_t code) {
  return code == ' ' || (code >= '\t' && code <= '\r') || code == 0xA0 || code == 0x3000 ||
         (code >= 0x2000 && code <= 0x200B) || code == 0x2028 || code == 0x2029;
}

bool IsWrittenWithoutSpaces(uint32_t code) {
  constexpr std::array<std::pair<uint32_t, uint32_t>, 9> ranges = {{
      {0x0E00, 0x0FFF},    // Thai, Lao, Tibetan
      {0x1000, 0x109F},    // Myanmar
      {0x1780, 0x17FF},    // Khmer
      {0x3001, 0x30FF},    // punctuation, Hiragana, Katakana
      {0x31F0, 0x31FF},    // Katakana
      {0x3400, 0x4DBF},    // Han
      {0x4E00, 0x9FFF},    // Han
      {0xF900, 0xFAFF},    // Han
      {0x20000, 0x3FFFF},  // Han
  }};
  return std::any_of(ranges.begin(), ranges.end(), [code](const auto& range) {
    return code >= range.first && code <= range.second;
  });
}

std::vector<Token> TokensOf(std::string_view text) {
  std::vector<Token> tokens;
  bool in_word = false;
  while (!text.empty()) {
    const auto [code, bytes] = First(text);
    text.remove_prefix(std::min(bytes, text.size()));
    if (IsSpace(code)) {
      in_word = false;
    } else if (IsWrittenWithoutSpaces(code)) {
      in_word = false;
      tokens.push_back({Combine(0, code), 1});
    } else {
      if (!in_word) tokens.push_back({0, 2});
      in_word = true;
      const uint32_t folded = code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
      tokens.back().hash = Combine(tokens.back().hash, folded);
    }
  }
  return tokens;
}

}  // namespace

std::vector<uint64_t> ShinglesOf(std::string_view text) {
  const std::vector<Token> tokens = TokensOf(text);
  std::vector<uint64_t> shingles;
  for (size_t begin = 0; begin < tokens.size(); ++begin) {
    uint64_t hash = 0;
    int halves = 0;
    for (size_t at = begin; at < tokens.size() && halves < kShingleHalves; ++at) {
      hash = Combine(hash, tokens[at].hash);
      halves += tokens[at].halves;
    }
    if (halves < kShingleHalves && begin > 0) break;
    shingles.push_back(hash);
  }
  return shingles;
}

void TextOverlap::AddHeldOut(const std::vector<uint64_t>& shingles) {
  for (const uint64_t hash : shingles) {
    if (hash <= largest_) seen_.emplace(hash, false);
    if (seen_.size() > most_shingles_) DropLargeHashes();
  }
}

void TextOverlap::AddCalibration(const std::vector<uint64_t>& shingles) {
  for (const uint64_t hash : shingles) {
    if (hash > largest_) continue;
    if (const auto found = seen_.find(hash); found != seen_.end()) found->second = true;
  }
}

double TextOverlap::share() const {
  if (seen_.empty()) return 0;
  const auto seen =
      std::count_if(seen_.begin(), seen_.end(), [](const auto& shingle) { return shingle.second; });
  return static_cast<double>(seen) / static_cast<double>(seen_.size());
}

void TextOverlap::DropLargeHashes() {
  while (seen_.size() > most_shingles_) {
    largest_ /= 2;
    std::erase_if(seen_, [this](const auto& shingle) { return shingle.first > largest_; });
  }
}

}  // namespace secateur
