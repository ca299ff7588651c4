// The byte-level tokenizer of the tiny models.
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/tiny_model.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

std::string Utf8(uint32_t character) {
  if (character < 0x80U) return {static_cast<char>(character)};
  return {static_cast<char>(0xC0U | (character >> 6U)),
          static_cast<char>(0x80U | (character & 0x3FU))};
}

// The printable character that stands for each byte in byte-level vocabularies.
std::vector<std::string> ByteCharacters() {
  std::vector<std::string> characters;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1U && byte <= 0xACU) ||
                           (byte >= 0xAEU && byte <= 0xFFU);
    characters.push_back(Utf8(printable ? byte : next++));
  }
  return characters;
}

}  // namespace

std::string TinyTokenizerJson(int64_t vocabulary_size) {
  Json vocabulary = Json::object();
  const std::vector<std::string> characters = ByteCharacters();
  for (size_t byte = 0; byte < characters.size(); ++byte) vocabulary[characters[byte]] = byte;
  Json merges = Json::array();
  const std::string& space = characters[static_cast<size_t>(' ')];
  const std::pair<std::string, std::string> pairs[] = {
      {"h", "e"}, {"i", "n"},   {space, "t"}, {space, "a"}, {"e", "r"},
      {"o", "n"}, {space, "s"}, {"a", "t"},   {"e", "n"},   {space + "t", "he"},
      {"o", "r"}, {"i", "s"},   {"in", "g"},  {space, "he"}};
  for (const auto& [left, right] : pairs) {
    merges.push_back({left, right});
    const size_t id = vocabulary.size();
    vocabulary[left + right] = id;
  }
  Json added = Json::array();
  for (const auto& [content, id] :
       {std::pair{"<|bos|>", kTinyBos}, std::pair{"<|eos|>", kTinyEos}}) {
    vocabulary[content] = id;
    added.push_back({{"id", id},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  // A larger vocabulary has pairs of letters, as many as it takes.
  for (char left = 'a'; left <= 'z'; ++left) {
    for (char right = 'a'; right <= 'z'; ++right) {
      const std::string pair = {left, right};
      if (std::ssize(vocabulary) >= vocabulary_size || vocabulary.contains(pair)) continue;
      merges.push_back({std::string{left}, std::string{right}});
      const size_t id = vocabulary.size();
      vocabulary[pair] = id;
    }
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", false},
                      {"vocab", vocabulary},
                      {"merges", merges}};
  const Json tokenizer = {
      {"version", "1.0"},          {"truncation", nullptr}, {"padding", nullptr},
      {"added_tokens", added},     {"normalizer", nullptr}, {"pre_tokenizer", byte_level},
      {"post_processor", nullptr}, {"decoder", byte_level}, {"model", model}};
  return tokenizer.dump(2);
}

}  // namespace secateur
