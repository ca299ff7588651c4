// Values as people read them. All functions are pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/map.h"

namespace secateur::cli {

// Three significant digits with k, M, B, T: 134515008 is "135M", 999 is "999", 1500 is "1.50k".
std::string FormatCount(double count);
// "1 corpus", "2 corpora".
std::string FormatNumber(int64_t number, const char* one, const char* several);
// Three significant digits with binary units: "98.1 MiB", "512 B".
std::string FormatBytes(double bytes);
// A share of 1 as percent: 0.354 is "35.4%".
std::string FormatShare(double share);
// Whole seconds: "45s", "3m 20s", "2h 5m"; "under 1s" below one.
std::string FormatTimeSpan(absl::Duration duration);
// RELATIVE_MEAN is "relative-mean"; numbers without a name stay numbers.
std::string FormatEnum(const google::protobuf::EnumDescriptor& descriptor, int number);
// "domain=legal language=ko", by key.
std::string FormatLabels(const google::protobuf::Map<std::string, std::string>& labels);
// The text with control characters as "?", since it may come from another machine and a terminal
// obeys them.
std::string Printable(const std::string& text);

}  // namespace secateur::cli
