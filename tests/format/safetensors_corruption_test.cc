// Damaged files are refused, or give a table that is consistent with the bytes that are there.

#include <algorithm>
#include <numeric>
#include <random>

#include "server/format/safetensors_reader.h"
#include "tests/format/safetensors_files.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

uint64_t HeaderSize(const std::string& file) {
  return 8 + static_cast<uint8_t>(file[0]) + 256u * static_cast<uint8_t>(file[1]);
}

// Reads `file`; when that works, the views must tile the data that the file ends with.
// Says whether it worked.
bool ReadsConsistently(const std::string& file) {
  const auto reader = SafetensorsReader::FromBytes("damaged", file);
  if (!reader.ok()) {
    EXPECT_THAT(reader.status().code(), testing::AnyOf(absl::StatusCode::kInvalidArgument,
                                                       absl::StatusCode::kUnimplemented));
    return false;
  }
  std::vector<std::string_view> views;
  for (const auto& [name, view] : reader->tensors()) {
    EXPECT_EQ(static_cast<int64_t>(view.bytes.size()), ByteSize({name, view.dtype, view.shape}));
    if (!view.bytes.empty()) views.push_back(view.bytes);
  }
  std::sort(views.begin(), views.end(), [](auto a, auto b) { return a.data() < b.data(); });
  std::string data;
  for (const std::string_view view : views) data += view;
  for (size_t i = 1; i < views.size(); ++i) {
    EXPECT_EQ(views[i - 1].data() + views[i - 1].size(), views[i].data());
  }
  EXPECT_EQ(data, file.substr(file.size() - data.size()));
  EXPECT_EQ(file.size(), HeaderSize(file) + data.size());
  return true;
}

TEST(DamagedSafetensors, EveryTruncationIsRefused) {
  const std::string file = SmallFile();
  ASSERT_TRUE(ReadsConsistently(file));
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(ReadsConsistently(file.substr(0, size))) << size << " bytes";
  }
}

TEST(DamagedSafetensors, EveryAddedByteIsRefused) {
  const std::string file = SmallFile();
  for (size_t at = HeaderSize(file); at <= file.size(); ++at) {
    EXPECT_FALSE(ReadsConsistently(std::string(file).insert(at, 1, ' '))) << "at " << at;
  }
}

TEST(DamagedSafetensors, EveryChangeOfAHeaderByteIsRefusedOrConsistent) {
  const std::string file = SmallFile();
  int accepted = 0;
  for (size_t at = 0; at < HeaderSize(file); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(byte);
      if (ReadsConsistently(damaged)) ++accepted;
      if (HasFailure()) FAIL() << "byte " << at << " set to " << byte;
    }
  }
  // Another letter in a name is a valid file; so is the unchanged one, once for each byte.
  EXPECT_GT(accepted, static_cast<int>(HeaderSize(file)));
}

TEST(DamagedSafetensors, RandomDamageIsRefusedOrConsistent) {
  std::mt19937 random(11);
  const std::string file = SmallFile();
  constexpr std::string_view kPieces[] = {
      "\"",      "{",    "}", "[", "]", ",", ":", "0", "9", "-", "1e9", "null", "\"dtype\":\"F32\"",
      "\\u0000", "[0,0]"};
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = file;
    for (int edits = 1 + static_cast<int>(random() % 4); edits > 0; --edits) {
      const size_t at = 8 + random() % (HeaderSize(file) - 8);
      damaged.replace(std::min(at, damaged.size()), random() % 6,
                      kPieces[random() % std::size(kPieces)]);
    }
    const size_t header = HeaderSize(file) + damaged.size() - file.size();
    if (random() % 2 == 0) {  // half of them keep a length that fits the text
      damaged[0] = static_cast<char>(header - 8);
      damaged[1] = static_cast<char>((header - 8) >> 8);
    }
    ReadsConsistently(damaged);
    if (HasFailure()) FAIL() << "round " << round;
  }
}

}  // namespace
}  // namespace secateur
