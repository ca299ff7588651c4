// Values as people write them. All functions are pure; errors are INVALID_ARGUMENT and name the
// option (`what`), the text found and what is allowed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace secateur::cli {

// "35%" or "0.35", 0 to 1.
absl::StatusOr<double> ParseShare(const std::string& what, const std::string& text);
// "20%" or "0.2", at least 0; may pass 100%.
absl::StatusOr<double> ParseRise(const std::string& what, const std::string& text);
// "250000", "100M", "1.5B": k, M, B (or G) and T are powers of 1000. At least 1, whole.
absl::StatusOr<int64_t> ParseCount(const std::string& what, const std::string& text);
// "1000000", "250MiB", "1.5 GB": KiB, MiB, GiB, TiB are powers of 1024; kB, MB, GB, TB of 1000. At
// least 1, whole.
absl::StatusOr<int64_t> ParseBytes(const std::string& what, const std::string& text);
// "90m", "24h", "1h30m" or "7d": above 0.
absl::StatusOr<google::protobuf::Duration> ParseTimeSpan(const std::string& what,
                                                         const std::string& text);
// "2026-12-31T23:59:59Z", or with "+01:00" instead of the Z.
absl::StatusOr<google::protobuf::Timestamp> ParseTime(const std::string& what,
                                                      const std::string& text);
// "key=value", both not empty; the server checks that they are slugs.
absl::StatusOr<std::pair<std::string, std::string>> ParseKeyValue(const std::string& what,
                                                                  const std::string& text);
// Several of them; a key twice is an error.
absl::StatusOr<std::map<std::string, std::string>> ParseLabels(
    const std::string& what, const std::vector<std::string>& texts);
// "relative-mean" is RELATIVE_MEAN, in any case and with "-" or "_"; "" is the zero value.
absl::StatusOr<int> ParseEnum(const std::string& what, const std::string& text,
                              const google::protobuf::EnumDescriptor& descriptor);
// The names ParseEnum takes, for help texts: "relative-mean, cus-prun".
std::string EnumNames(const google::protobuf::EnumDescriptor& descriptor);

}  // namespace secateur::cli
