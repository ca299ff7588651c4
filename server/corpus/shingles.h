// How much of held-out text stands in calibration text: by shingles, runs of 8 words, or of 16
// characters in scripts that are written without spaces.
//
// A word is what stands between white space, without case in ASCII; each character of Han, Kana,
// Thai, Lao, Khmer, Myanmar and Tibetan counts as half a word of its own, so that mixed text needs
// no decision. A text of less than 8 words is one shingle. Shingles are known by 64-bit hashes: two
// that differ are taken for equal about once in 10^14 comparisons with a full sample.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace secateur {

// Hashes of the shingles of `text` (UTF-8) in order, one for each word it can begin at.
std::vector<uint64_t> ShinglesOf(std::string_view text);

// Held-out text on one side, calibration text on the other. Memory: at most 65,536 shingles of the
// held-out text, about 4 MiB; of more, those with the smallest hashes, a sample by hash, which
// makes the share an estimate (within 0.4 % nearly always). One thread at a time.
class TextOverlap {
 public:
  explicit TextOverlap(size_t most_shingles = size_t{1} << 16) : most_shingles_(most_shingles) {}

  // All held-out text before any calibration text.
  void AddHeldOut(const std::vector<uint64_t>& shingles);
  void AddCalibration(const std::vector<uint64_t>& shingles);

  // Share of the different shingles of held-out text that calibration text has too, 0 to 1; 0 when
  // there are none.
  double share() const;

 private:
  void DropLargeHashes();

  const size_t most_shingles_;
  uint64_t largest_ = UINT64_MAX;            // hashes above it are not kept
  std::unordered_map<uint64_t, bool> seen_;  // by hash: is it in calibration text?
};

}  // namespace secateur
