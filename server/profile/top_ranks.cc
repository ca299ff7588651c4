#include "server/profile/top_ranks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <utility>

#include "absl/strings/str_join.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

// Three passes cover the 32 bits of a float.
constexpr int kDigitBits = 11;
constexpr uint32_t kDigitMask = (1u << kDigitBits) - 1;

struct Item {
  uint32_t key;
  uint32_t channel;
};

// A stable pass of a radix sort by the digit at `shift`.
void SortByDigit(int shift, const std::vector<Item>& from, std::vector<Item>& to) {
  std::array<uint32_t, kDigitMask + 1> next{};
  for (const Item& item : from) ++next[item.key >> shift & kDigitMask];
  uint32_t place = 0;
  for (uint32_t& count : next) place += std::exchange(count, place);
  for (const Item& item : from) to[next[item.key >> shift & kDigitMask]++] = item;
}

}  // namespace

// The bits of floats that are not negative sort as the floats do; the sort is stable, so equal
// scores keep the order of their channels.
std::vector<uint16_t> RankScores(const std::vector<float>& scores) {
  std::vector<Item> items(scores.size());
  for (uint32_t k = 0; k < items.size(); ++k) {
    items[k] = {std::bit_cast<uint32_t>(scores[k] + 0.0f), k};  // + 0 makes 0 of -0
  }
  std::vector<Item> sorted(items.size());
  for (int shift = 0; shift < 32; shift += kDigitBits) {
    SortByDigit(shift, items, sorted);
    items.swap(sorted);
  }
  std::vector<uint16_t> ranks(scores.size());
  for (uint32_t i = 0; i < items.size(); ++i) {
    ranks[items[i].channel] = static_cast<uint16_t>(i);
  }
  return ranks;
}

// `row` is descending and padded with 0, the least rank there is. Once it is full, most documents
// end at the first comparison.
void InsertTopRank(uint16_t rank, uint16_t* row) {
  int place = kTopRanks - 1;
  if (rank <= row[place]) return;
  for (; place > 0 && row[place - 1] < rank; --place) row[place] = row[place - 1];
  row[place] = rank;
}

// Rows are descending and padded with 0, the least rank there is: the largest of both rows are the
// largest of all documents, whatever the padding.
void MergeTopRanks(const uint16_t* other, uint16_t* row) {
  uint16_t merged[kTopRanks];
  const uint16_t* mine = row;
  for (uint16_t& rank : merged) rank = *mine >= *other ? *mine++ : *other++;
  std::copy_n(merged, kTopRanks, row);
}

absl::Status CheckTopRanks(std::string_view where, const std::vector<uint16_t>& top_ranks,
                           int64_t documents) {
  const size_t units = top_ranks.size() / kTopRanks;
  const auto used = static_cast<ptrdiff_t>(std::min<int64_t>(documents, kTopRanks));
  for (size_t k = 0; k < units; ++k) {
    const auto row = top_ranks.begin() + static_cast<ptrdiff_t>(k * kTopRanks);
    const auto end = row + kTopRanks;
    const bool sorted = std::is_sorted(row, end, std::greater<>());
    const bool padded = std::all_of(row + used, end, [](uint16_t rank) { return rank == 0; });
    if (sorted && padded && *row < units) continue;
    return absl::InvalidArgumentError(StrCat(
        where, ", unit ", k, ": ", absl::StrJoin(row, end, " "),
        " is not allowed; expected ranks below ", units, ", descending, 0 past the first ", used));
  }
  return absl::OkStatus();
}

}  // namespace secateur
