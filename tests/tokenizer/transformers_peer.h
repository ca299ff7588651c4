// Asks stock Transformers, in one Python process, what it makes of the same documents and compares
// token ids, byte ranges and decoded texts.
#pragma once

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/base/digest.h"
#include "server/tokenizer/tokenizer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {

// Documents in every script.
inline const std::string kMultilingual = SECATEUR_TESTS "/data/multilingual.jsonl";

// The value of an environment variable, empty if it is not set.
inline std::string Environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

// The texts of a JSON Lines file.
inline std::vector<std::string> TextsOf(const std::string& file) {
  std::vector<std::string> texts;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    texts.push_back(nlohmann::json::parse(line)["text"]);
  }
  return texts;
}

inline std::string DigestOfIntegers(const std::vector<uint32_t>& integers) {
  return Sha256Of({reinterpret_cast<const char*>(integers.data()), 4 * integers.size()}).Hex();
}

// The line that tokenizer_peer.py writes for a document.
inline absl::StatusOr<std::string> PeerLine(const Tokenizer& tokenizer, const std::string& text) {
  const auto encoding = tokenizer.Encode(text);
  if (!encoding.ok()) return encoding.status();
  const auto decoded = tokenizer.Decode(encoding->ids);
  if (!decoded.ok()) return decoded.status();
  std::vector<uint32_t> offsets;
  for (const auto& [begin, end] : encoding->offsets) {
    offsets.push_back(begin);
    offsets.push_back(end);
  }
  return std::to_string(encoding->ids.size()) + " " + DigestOfIntegers(encoding->ids) + " " +
         DigestOfIntegers(offsets) + " " + Sha256Of(*decoded).Hex();
}

// `model` is a folder that AutoTokenizer loads, `tokenizer` what we made of its tokenizer.json.
// REQUIRES: SECATEUR_TEST_PYTHON is set.
inline void CompareWithTransformers(const std::string& model, const Tokenizer& tokenizer,
                                    const std::vector<std::string>& files) {
  const TempDir folder;
  std::string list;
  for (const std::string& file : files) list += file + "\n";
  const std::string output = folder.Join("output");
  const std::string command = "\"" + Environment("SECATEUR_TEST_PYTHON") +
                              "\" \"" SECATEUR_TESTS "/tokenizer/tokenizer_peer.py\" \"" + model +
                              "\" \"" + folder.Write("list", list) + "\" \"" + output + "\"";
  ASSERT_EQ(std::system(command.c_str()), 0) << command;

  std::ifstream expected(output);
  std::string line;
  ASSERT_TRUE(std::getline(expected, line));
  EXPECT_EQ(std::to_string(tokenizer.vocabulary_size()), line);
  size_t documents = 0;
  for (const std::string& file : files) {
    size_t number = 0;
    for (const std::string& text : TextsOf(file)) {
      ++number;
      ASSERT_TRUE(std::getline(expected, line)) << file;
      EXPECT_THAT(PeerLine(tokenizer, text), IsOkAndHolds(line)) << file << " line " << number;
      ++documents;
    }
  }
  EXPECT_FALSE(std::getline(expected, line)) << line;
  EXPECT_GT(documents, 0u);
  testing::Test::RecordProperty("documents", static_cast<int>(documents));
}

}  // namespace secateur
