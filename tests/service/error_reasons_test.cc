// The table of reasons, the sources that use them and the API's README say the same.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "server/service/grpc_status.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

std::string Read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::set<std::string> Table() {
  std::set<std::string> reasons;
  for (const ErrorReason& reason : ErrorReasons()) {
    EXPECT_TRUE(reasons.insert(reason.reason).second) << reason.reason << " stands there twice";
    EXPECT_NE(std::string(reason.meaning), "");
    EXPECT_NE(std::string(reason.remedy), "");
  }
  return reasons;
}

// Reasons given in a source: the last argument of WithReason, a literal.
std::set<std::string> ReasonsIn(const std::string& source) {
  std::set<std::string> reasons;
  for (size_t at = source.find("WithReason("); at != std::string::npos;
       at = source.find("WithReason(", at + 1)) {
    int depth = 0;
    size_t end = source.find('(', at);
    bool quoted = false;
    for (; end < source.size(); ++end) {
      if (source[end] == '"' && source[end - 1] != '\\') quoted = !quoted;
      if (quoted) continue;
      if (source[end] == '(') ++depth;
      if (source[end] == ')' && --depth == 0) break;
    }
    const std::string call = source.substr(at, end - at + 1);
    std::smatch match;
    if (std::regex_search(call, match, std::regex("\"([A-Z][A-Z_]+)\"\\)$"))) {
      reasons.insert(match[1]);
    }
  }
  return reasons;
}

TEST(ErrorReasons, HoldEveryReasonThatTheServerGives) {
  const std::set<std::string> table = Table();
  std::set<std::string> used;
  const std::filesystem::path server = std::filesystem::path(SECATEUR_SOURCE_DIR) / "server";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(server)) {
    if (entry.path().extension() != ".cc" && entry.path().extension() != ".h") continue;
    for (const std::string& reason : ReasonsIn(Read(entry.path()))) {
      used.insert(reason);
      EXPECT_TRUE(table.contains(reason)) << reason << " in " << entry.path();
    }
  }
  EXPECT_TRUE(used.contains("QUEUE_FULL") && used.contains("NOT_HONOURED")) << "nothing was found";
  // And no reason that nothing gives: it follows from a code, or a source names it.
  for (const ErrorReason& reason : ErrorReasons()) {
    EXPECT_TRUE(used.contains(reason.reason) ||
                reason.reason == absl::StatusCodeToString(reason.code))
        << reason.reason;
  }
}

TEST(ErrorReasons, HoldEveryCodeThatComesWithoutAReason) {
  const std::set<std::string> table = Table();
  for (const absl::StatusCode code :
       {absl::StatusCode::kCancelled, absl::StatusCode::kInvalidArgument,
        absl::StatusCode::kNotFound, absl::StatusCode::kAlreadyExists,
        absl::StatusCode::kPermissionDenied, absl::StatusCode::kResourceExhausted,
        absl::StatusCode::kFailedPrecondition, absl::StatusCode::kAborted,
        absl::StatusCode::kOutOfRange, absl::StatusCode::kUnimplemented,
        absl::StatusCode::kInternal, absl::StatusCode::kUnavailable, absl::StatusCode::kDataLoss}) {
    EXPECT_TRUE(table.contains(absl::StatusCodeToString(code))) << code;
  }
}

TEST(ErrorReasons, AreRowsOfTheReadmeOfTheApi) {
  const std::filesystem::path readme =
      std::filesystem::path(SECATEUR_SOURCE_DIR) / "proto" / "README.md";
  if (!std::filesystem::exists(readme)) GTEST_SKIP() << "proto/README.md does not exist";
  const std::string text = Read(readme);
  std::set<std::string> rows;
  const std::regex row("(^|\n)\\| *`([A-Z_]+)` *\\|");
  for (std::sregex_iterator it(text.begin(), text.end(), row), end; it != end; ++it) {
    rows.insert((*it)[2]);
  }
  EXPECT_EQ(rows, Table());
}

}  // namespace
}  // namespace secateur
