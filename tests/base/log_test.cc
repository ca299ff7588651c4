#include "server/base/log.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/utf8.h"

namespace secateur {
namespace {

using ::testing::MatchesRegex;
using ::testing::SizeIs;
using Json = nlohmann::ordered_json;

// What `write` logged, each line parsed as one JSON object.
template <class Write>
std::vector<Json> LinesOf(const Write& write) {
  testing::internal::CaptureStderr();
  write();
  FlushLog();
  std::istringstream captured(testing::internal::GetCapturedStderr());
  std::vector<Json> lines;
  for (std::string line; std::getline(captured, line);) lines.push_back(Json::parse(line));
  return lines;
}

TEST(Log, WritesOneJsonObjectALine) {
  const auto lines = LinesOf([] {
    Log(LogLevel::kInfo, "started",
        {{"port", 443}, {"host", "localhost"}, {"ready", true}, {"seconds", 0.5}});
  });
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0]["time"].get<std::string>(),
              MatchesRegex("[0-9-]{10}T[0-9:]{8}[.][0-9]{6}Z"));
  EXPECT_EQ(lines[0]["level"], "info");
  EXPECT_EQ(lines[0]["message"], "started");
  EXPECT_EQ(lines[0]["port"], 443);
  EXPECT_EQ(lines[0]["host"], "localhost");
  EXPECT_EQ(lines[0]["ready"], true);
  EXPECT_EQ(lines[0]["seconds"], 0.5);
}

TEST(Log, KeepsTheOrderOfFields) {
  const auto lines = LinesOf([] { Log(LogLevel::kInfo, "m", {{"z", 1}, {"a", 2}}); });
  ASSERT_THAT(lines, SizeIs(1));
  std::vector<std::string> keys;
  for (const auto& item : lines[0].items()) keys.push_back(item.key());
  EXPECT_THAT(keys, testing::ElementsAre("time", "level", "message", "z", "a"));
}

TEST(Log, SurvivesHostileStrings) {
  const std::string hostile[] = {
      "\n{\"level\":\"error\"}\n",
      "\"},{\"",
      "{} {0} %s %n",
      std::string("nul\0inside", 10),
      "\xC0\xAF not UTF-8 \xFF",
      "\xE2\x80\xA8 line separator",
      "\x1b[31mred",
      std::string(100000, 'x'),
  };
  for (const std::string& text : hostile) {
    const auto lines = LinesOf([&] { Log(LogLevel::kWarning, text, {{"field", text}}); });
    ASSERT_THAT(lines, SizeIs(1)) << text;
    EXPECT_EQ(lines[0]["level"], "warning");
    if (!FirstInvalidUtf8(text)) {
      EXPECT_EQ(lines[0]["field"], text);
      EXPECT_EQ(lines[0]["message"], text);
    }
  }
}

TEST(Log, WritesNumbersAtTheirLimits) {
  const auto lines = LinesOf([] {
    Log(LogLevel::kError, "limits",
        {{"low", std::numeric_limits<int64_t>::min()},
         {"high", std::numeric_limits<int64_t>::max()},
         {"nan", std::nan("")},
         {"infinite", std::numeric_limits<double>::infinity()}});
  });
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0]["low"], std::numeric_limits<int64_t>::min());
  EXPECT_EQ(lines[0]["high"], std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(lines[0]["nan"].is_null());
  EXPECT_TRUE(lines[0]["infinite"].is_null());
}

TEST(Log, LeavesOutWhatIsBelowTheLevel) {
  SetLogLevel(LogLevel::kWarning);
  const auto lines = LinesOf([] {
    Log(LogLevel::kDebug, "d");
    Log(LogLevel::kInfo, "i");
    Log(LogLevel::kWarning, "w");
    Log(LogLevel::kError, "e");
  });
  SetLogLevel(LogLevel::kInfo);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_EQ(lines[0]["message"], "w");
  EXPECT_EQ(lines[1]["message"], "e");
}

TEST(Log, NeverMixesLinesOfDifferentThreads) {
  const auto lines = LinesOf([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 200; ++i) Log(LogLevel::kInfo, "m", {{"text", std::string(300, 'x')}});
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_THAT(lines, SizeIs(800));
}

}  // namespace
}  // namespace secateur
