#include "server/vocabulary/derivations.h"

#include <cstddef>
#include <optional>
#include <string>

namespace secateur {
namespace {

// Bytes of the character that starts with `lead`, in well-formed UTF-8.
size_t CharacterBytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace

Derivations::Derivations(const BpeFile& file) : file_(file) {
  rules_.reserve(file.merges().size());
  uint32_t rank = 0;
  for (const Merge& merge : file.merges()) {
    const auto key = static_cast<uint64_t>(merge.left) << 32U | static_cast<uint32_t>(merge.right);
    rules_[key] = {rank++, merge.product};  // of a pair that is listed twice the last one counts
  }
}

const Derivations::Rule* Derivations::Find(int32_t left, int32_t right) const {
  const auto found = rules_.find(static_cast<uint64_t>(left) << 32U | static_cast<uint32_t>(right));
  return found == rules_.end() ? nullptr : &found->second;
}

std::vector<int32_t> Derivations::Characters(int32_t id) const {
  std::vector<int32_t> ids;
  for (std::string_view text = file_.token(id); !text.empty();) {
    const std::string_view character = text.substr(0, CharacterBytes(text[0]));
    const std::optional<int32_t> token = file_.ModelId(character);
    if (!token) return {};
    ids.push_back(*token);
    text.remove_prefix(character.size());
  }
  return ids;
}

std::vector<int32_t> Derivations::Of(int32_t id) const {
  std::vector<int32_t> symbols = Characters(id);
  std::vector<int32_t> made = symbols;
  while (symbols.size() > 1) {
    const Rule* best = nullptr;
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Rule* rule = Find(symbols[i], symbols[i + 1]);
      if (rule != nullptr && (best == nullptr || rule->rank < best->rank)) {
        best = rule;
        at = i;
      }
    }
    if (best == nullptr) break;
    symbols[at] = best->product;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    made.push_back(best->product);
  }
  if (symbols.size() != 1 || symbols[0] != id) return {id};
  return made;
}

std::vector<int64_t> DerivationCounts(const Derivations& derivations,
                                      const std::vector<int64_t>& counts) {
  std::vector<int64_t> made(counts.size());
  for (size_t id = 0; id < counts.size(); ++id) {
    if (counts[id] == 0) continue;
    for (const int32_t step : derivations.Of(static_cast<int32_t>(id))) {
      made[static_cast<size_t>(step)] += counts[id];
    }
  }
  return made;
}

}  // namespace secateur
