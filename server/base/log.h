// One JSON object a line on stderr, for machines first: {"time","level","message", fields...}.
// Thread-safe. Messages are fixed text; what varies goes into fields, so that lines can be grouped.
// Never log document text, credentials or URIs with user info.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace secateur {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogField {
  template <class T>
  LogField(std::string_view k, T v) : key(k) {  // NOLINT(google-explicit-constructor)
    if constexpr (std::is_same_v<T, bool>) {
      value = v;
    } else if constexpr (std::is_integral_v<T>) {
      value = static_cast<int64_t>(v);
    } else if constexpr (std::is_floating_point_v<T>) {
      value = static_cast<double>(v);
    } else {
      value = std::string(std::move(v));
    }
  }
  std::string_view key;
  std::variant<bool, int64_t, double, std::string> value;
};

// Called once before the first line; default level is kInfo.
void SetLogLevel(LogLevel level);
void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});
// Writes out what is buffered; before the process ends.
void FlushLog();

}  // namespace secateur
