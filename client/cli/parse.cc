#include "client/cli/parse.h"

#include <charconv>
#include <cmath>

#include <google/protobuf/util/time_util.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "client/cli/format.h"

namespace secateur::cli {
namespace {

absl::Status Refuse(const std::string& what, const std::string& text, const std::string& allowed) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": \"", text, "\" is not ", allowed));
}

// The number at the start of `text`; what follows it goes to `rest` without spaces around it.
bool ParseNumber(const std::string& text, double& value, std::string& rest) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  rest = std::string(absl::StripAsciiWhitespace(std::string(stop, end)));
  return error == std::errc() && std::isfinite(value);
}

// "35%" or "0.35".
bool ParsePercent(const std::string& text, double& value) {
  std::string rest;
  if (!ParseNumber(text, value, rest) || !(rest.empty() || rest == "%")) return false;
  if (rest == "%") value /= 100;
  return true;
}

// A positive whole number with one of the units.
absl::StatusOr<int64_t> ParseScaled(const std::string& what, const std::string& text,
                                    const std::map<std::string, double>& units,
                                    const std::string& allowed) {
  double number = 0;
  std::string unit;
  if (!ParseNumber(text, number, unit) || units.count(unit) == 0) {
    return Refuse(what, text, allowed);
  }
  const double value = std::round(number * units.at(unit));
  if (value < 1 || value >= 0x1p63) return Refuse(what, text, "between 1 and 2^63");
  const bool exact = !unit.empty() || value == number;
  if (!exact) return Refuse(what, text, "a whole number");
  return static_cast<int64_t>(value);
}

}  // namespace

absl::StatusOr<double> ParseShare(const std::string& what, const std::string& text) {
  double value = 0;
  if (ParsePercent(text, value) && value >= 0 && value <= 1) return value;
  return Refuse(what, text, "a share: write 35% or 0.35, from 0 to 1");
}

absl::StatusOr<double> ParseRise(const std::string& what, const std::string& text) {
  double value = 0;
  if (ParsePercent(text, value) && value >= 0) return value;
  return Refuse(what, text, "a rise: write 20% or 0.2, at least 0");
}

absl::StatusOr<int64_t> ParseCount(const std::string& what, const std::string& text) {
  return ParseScaled(
      what, text,
      {{"", 1}, {"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"B", 1e9}, {"G", 1e9}, {"T", 1e12}},
      "a count: write 250000, 100M or 1.5B");
}

absl::StatusOr<int64_t> ParseBytes(const std::string& what, const std::string& text) {
  return ParseScaled(what, text,
                     {{"", 1},
                      {"B", 1},
                      {"kB", 1e3},
                      {"KB", 1e3},
                      {"MB", 1e6},
                      {"GB", 1e9},
                      {"TB", 1e12},
                      {"KiB", 0x1p10},
                      {"MiB", 0x1p20},
                      {"GiB", 0x1p30},
                      {"TiB", 0x1p40}},
                     "a number of bytes: write 250000000, 250MiB or 1.5GB");
}

absl::StatusOr<google::protobuf::Duration> ParseTimeSpan(const std::string& what,
                                                         const std::string& text) {
  double days = 0;
  std::string unit;
  absl::Duration span;
  if (ParseNumber(text, days, unit) && unit == "d") {
    span = days * absl::Hours(24);
  } else if (!absl::ParseDuration(text, &span)) {
    span = absl::ZeroDuration();
  }
  if (span <= absl::ZeroDuration() || span == absl::InfiniteDuration()) {
    return Refuse(what, text, "a time span above 0: write 90m, 24h or 7d");
  }
  google::protobuf::Duration proto;
  proto.set_seconds(absl::IDivDuration(span, absl::Seconds(1), &span));
  proto.set_nanos(static_cast<int32_t>(span / absl::Nanoseconds(1)));
  return proto;
}

absl::StatusOr<google::protobuf::Timestamp> ParseTime(const std::string& what,
                                                      const std::string& text) {
  google::protobuf::Timestamp time;
  if (google::protobuf::util::TimeUtil::FromString(text, &time)) return time;
  return Refuse(what, text, "a time: write 2026-12-31T23:59:59Z");
}

absl::StatusOr<std::pair<std::string, std::string>> ParseKeyValue(const std::string& what,
                                                                  const std::string& text) {
  const size_t sign = text.find('=');
  if (sign == std::string::npos || sign == 0 || sign + 1 == text.size()) {
    return Refuse(what, text, "KEY=VALUE, such as language=ko");
  }
  return std::pair(text.substr(0, sign), text.substr(sign + 1));
}

absl::StatusOr<std::map<std::string, std::string>> ParseLabels(
    const std::string& what, const std::vector<std::string>& texts) {
  std::map<std::string, std::string> labels;
  for (const std::string& text : texts) {
    const auto label = ParseKeyValue(what, text);
    if (!label.ok()) return label.status();
    if (!labels.insert(*label).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": ", label->first, " is given twice; a label has one value"));
    }
  }
  return labels;
}

absl::StatusOr<int> ParseEnum(const std::string& what, const std::string& text,
                              const google::protobuf::EnumDescriptor& descriptor) {
  if (text.empty()) return 0;
  const std::string name = absl::StrReplaceAll(absl::AsciiStrToUpper(text), {{"-", "_"}});
  const auto* value = descriptor.FindValueByName(name);
  if (value != nullptr && value->number() != 0) return value->number();
  return Refuse(what, text, "one of " + EnumNames(descriptor));
}

std::string EnumNames(const google::protobuf::EnumDescriptor& descriptor) {
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.value_count(); ++i) {
    const int number = descriptor.value(i)->number();
    if (number != 0) names.push_back(FormatEnum(descriptor, number));
  }
  return absl::StrJoin(names, ", ");
}

}  // namespace secateur::cli
