// The files of tests/data/hostile, by the tables of its README.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/base/strings.h"
#include "tests/corpus/parse.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string ReadFile(const std::string& name) {
  std::ifstream in(std::filesystem::path(SECATEUR_HOSTILE_UPLOADS) / name, std::ios::binary);
  EXPECT_TRUE(in) << name;
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

// The cells of the table under `heading`: one vector a row.
std::vector<std::vector<std::string>> Table(const std::string& heading) {
  const std::string readme = ReadFile("README.md");
  std::string section = readme.substr(std::min(readme.find(heading), readme.size()));
  section = section.substr(0, section.find("\n## ", 1));
  std::vector<std::vector<std::string>> rows;
  for (const absl::string_view line : absl::StrSplit(section, '\n')) {
    if (line.substr(0, 3) != "| `") continue;
    std::vector<std::string> cells;
    for (const absl::string_view cell : absl::StrSplit(line, '|')) {
      cells.emplace_back(absl::StripAsciiWhitespace(cell));
    }
    cells.erase(cells.begin());
    cells[0] = cells[0].substr(1, cells[0].size() - 2);
    rows.push_back(std::move(cells));
  }
  return rows;
}

absl::StatusOr<Parsed> ParseFile(const std::string& name, size_t chunk_size) {
  const bool is_text = name.ends_with(".txt");
  return Parse(is_text ? CorpusFormat::kText : CorpusFormat::kJsonLines, ReadFile(name),
               [chunk_size](size_t) { return chunk_size; });
}

TEST(HostileUploads, AreRefusedOnTheRightLineForTheRightReason) {
  const auto rows = Table("## Refused");
  ASSERT_GT(rows.size(), 50u);
  for (const std::vector<std::string>& row : rows) {
    const std::string& name = row[0];
    for (const size_t chunk_size : {size_t{1}, size_t{7}, size_t{1} << 20}) {
      const auto parsed = ParseFile(name, chunk_size);
      ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument)
          << name << ": " << parsed.status();
      const std::string message(parsed.status().message());
      if (row[1] != "none") {
        EXPECT_THAT(message, StartsWith("line " + row[1] + ": ")) << name;
      }
      EXPECT_THAT(absl::AsciiStrToLower(message), HasSubstr(absl::AsciiStrToLower(row[2]))) << name;
      EXPECT_LT(message.size(), 400u) << name;
    }
  }
}

TEST(HostileUploads, ThatOnlyLookBadAreAccepted) {
  const auto rows = Table("## Accepted");
  ASSERT_GT(rows.size(), 10u);
  for (const std::vector<std::string>& row : rows) {
    for (const size_t chunk_size : {size_t{1}, size_t{7}, size_t{1} << 20}) {
      const auto parsed = ParseFile(row[0], chunk_size);
      ASSERT_OK(parsed) << row[0];
      EXPECT_EQ(std::to_string(parsed->documents.size()), row[1]) << row[0];
      EXPECT_EQ(std::to_string(parsed->dropped_fields), row[2]) << row[0];
    }
  }
}

TEST(HostileUploads, AreAllInATable) {
  std::set<std::string> listed;
  for (const char* heading : {"## Refused", "## Accepted"}) {
    for (const auto& row : Table(heading)) listed.insert(row[0]);
  }
  for (const auto& entry : std::filesystem::directory_iterator(SECATEUR_HOSTILE_UPLOADS)) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(name.starts_with('.') || name == "README.md" || listed.contains(name)) << name;
  }
}

TEST(HostileUploads, CutShortAnywhereNeverCrashAndNeverGainADocument) {
  for (const std::string name : {"escapes.jsonl", "unknown-fields.jsonl", "crlf.jsonl"}) {
    const std::string bytes = ReadFile(name);
    ASSERT_OK_AND_ASSIGN(const Parsed whole, ParseJson(bytes));
    for (size_t size = 0; size < bytes.size(); ++size) {
      const auto cut = ParseJson(bytes.substr(0, size));
      if (cut.ok()) {
        ASSERT_LE(cut->documents.size(), whole.documents.size());
      } else {
        ASSERT_EQ(cut.status().code(), absl::StatusCode::kInvalidArgument);
      }
    }
  }
}

}  // namespace
}  // namespace secateur
