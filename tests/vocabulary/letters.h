// Byte-pair tokenizers over a few letters, small enough to try every string: the merges are chosen
// by the test, the vocabulary follows from them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace secateur {

using LetterMerges = std::vector<std::pair<std::string, std::string>>;

// No pre-tokenizer: a text is one word. Ids: the letters, then the products in order of the merges.
inline nlohmann::ordered_json LetterTokenizer(const std::string& letters,
                                              const LetterMerges& merges) {
  nlohmann::ordered_json vocabulary = nlohmann::ordered_json::object();
  const auto add = [&vocabulary](const std::string& token) {
    const size_t id = vocabulary.size();
    if (!vocabulary.contains(token)) vocabulary[token] = id;
  };
  for (const char letter : letters) add(std::string(1, letter));
  nlohmann::ordered_json pairs = nlohmann::ordered_json::array();
  for (const auto& [left, right] : merges) {
    add(left + right);
    pairs.push_back({left, right});
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", nlohmann::ordered_json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", {{"type", "Fuse"}}},
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
            {"merges", pairs}}}};
}

}  // namespace secateur
