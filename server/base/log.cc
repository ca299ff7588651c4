#include "server/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace secateur {
namespace {

spdlog::logger& Logger() {
  static const auto logger = [] {
    auto made = std::make_shared<spdlog::logger>("secateur",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->flush_on(spdlog::level::warn);
    return made;
  }();
  return *logger;
}

struct LevelName {
  spdlog::level::level_enum level;
  const char* name;
};

LevelName Translate(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return {spdlog::level::debug, "debug"};
    case LogLevel::kInfo:
      return {spdlog::level::info, "info"};
    case LogLevel::kWarning:
      return {spdlog::level::warn, "warning"};
    case LogLevel::kError:
      return {spdlog::level::err, "error"};
  }
  return {spdlog::level::err, "error"};
}

}  // namespace

void SetLogLevel(LogLevel level) { Logger().set_level(Translate(level).level); }

void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  const LevelName translated = Translate(level);
  if (!Logger().should_log(translated.level)) return;
  nlohmann::ordered_json line;
  line["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone());
  line["level"] = translated.name;
  line["message"] = message;
  for (const LogField& field : fields) {
    std::visit([&](const auto& value) { line[std::string(field.key)] = value; }, field.value);
  }
  Logger().log(translated.level,
               line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void FlushLog() { Logger().flush(); }

}  // namespace secateur
